//! `arkeep-server ca …`

use std::io::Write;

use super::{Finding, MaintenanceError, Tools};
use crate::app::keys;

pub(super) async fn fingerprint(
    tools: &Tools,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    for authority in tools.store.authorities().await? {
        writeln!(
            out,
            "{}",
            keys::authority_from(tools.sealer.as_ref(), &authority)?.fingerprint()
        )?;
    }
    Ok(Finding::Good)
}

pub(super) async fn status(
    tools: &Tools,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    for stored in tools.store.authorities().await? {
        let authority = keys::authority_from(tools.sealer.as_ref(), &stored)?;
        writeln!(out, "fingerprint  {}", authority.fingerprint())?;
        writeln!(out, "made         {}", stored.created_at)?;
        write!(out, "{}", authority.root_pem())?;
    }
    Ok(Finding::Good)
}
