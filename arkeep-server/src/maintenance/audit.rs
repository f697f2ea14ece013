//! `arkeep-server audit …`

use std::io::Write;

use super::{Finding, MaintenanceError, open};
use crate::config::AuditCommand;
use crate::store::AuditStore;
use crate::store::audit::shape::EntryBody;
use crate::store::audit::{self, Head};

pub(super) async fn run(
    command: AuditCommand,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    match command {
        AuditCommand::Verify(args) => {
            let tools = open(args.data).await?;
            verify(&*tools.store, &args.noted, out).await
        }
        AuditCommand::Export(data) => export(&*open(data).await?.store, out).await,
    }
}

/// Names every fault of the chain, and then its end, for somebody to note elsewhere.
async fn verify(
    store: &dyn AuditStore,
    noted: &[Head],
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let mut faults = Vec::new();
    let head = audit::verify(store, noted, |fault| faults.push(fault)).await?;
    for fault in &faults {
        writeln!(out, "{fault}")?;
    }
    writeln!(
        out,
        "{} entries, {} faults; the chain ends with",
        head.seq,
        faults.len()
    )?;
    writeln!(out, "{head}")?;
    Ok(match faults.as_slice() {
        [] => Finding::Good,
        _ => Finding::Bad,
    })
}

async fn export(store: &dyn AuditStore, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let mut after = 0;
    loop {
        let entries = store.following(after, AT_ONCE).await?;
        if entries.is_empty() {
            return Ok(Finding::Good);
        }
        for entry in entries {
            after = entry.seq;
            let line =
                serde_json::to_string(&EntryBody::from(entry)).map_err(std::io::Error::from)?;
            writeln!(out, "{line}")?;
        }
    }
}

const AT_ONCE: u32 = 500;
