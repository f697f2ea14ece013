//! `arkeep-server vault …`

use std::io::Write;

use arkeep_core::Timestamp;
use arkeep_vault::{Binding, KeyState, RingFile};

use super::{Finding, MaintenanceError, Tools};
use crate::store::{DestinationStore, KeyStore as _, Page, PolicyStore, sealed};

pub(super) fn status(ring: &RingFile, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    writeln!(
        out,
        "{:<16}  {:<8}  {:<24}  messages sealed",
        "key", "state", "made"
    )?;
    for key in ring.keys() {
        let state = match key.state {
            KeyState::Primary => "primary",
            KeyState::Decrypt => "decrypt",
            KeyState::Disabled => "disabled",
            _ => "unknown",
        };
        let made = Timestamp::from_unix_millis(key.created_at);
        writeln!(
            out,
            "{}  {state:<8}  {made}  {}",
            key.id, key.messages_sealed
        )?;
    }
    Ok(Finding::Good)
}

/// Opens every sealed value there is, and names those that do not open.
pub(super) async fn verify(
    tools: &Tools,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let mut tally = Tally {
        tools,
        out,
        good: 0,
        bad: 0,
    };
    for authority in tools.store.authorities().await? {
        let binding = sealed::authority_private_key(&authority.id);
        tally.open(
            "ca.private_key",
            &authority.id,
            &authority.private_key,
            &binding,
        )?;
    }
    for key in tools.store.token_keys().await? {
        let binding = sealed::token_key_private_key(&key.id);
        tally.open(
            "token_keys.private_key",
            &key.id,
            &key.private_key,
            &binding,
        )?;
    }
    let mut page = everything();
    loop {
        let listed = DestinationStore::list(&tools.store, &page).await?;
        for destination in listed.items {
            if let Some(credentials) = &destination.credentials {
                let binding = sealed::destination_credentials(destination.id);
                let id = destination.id.to_string();
                tally.open("destinations.credentials", &id, credentials, &binding)?;
            }
        }
        let Some(next) = listed.next else { break };
        page = everything().after(next);
    }
    let mut page = everything();
    loop {
        let listed = PolicyStore::list(&tools.store, None, &page).await?;
        for policy in listed.items {
            let binding = sealed::policy_repository_password(policy.id);
            let id = policy.id.to_string();
            let password = &policy.repository_password;
            tally.open("policies.repository_password", &id, password, &binding)?;
        }
        let Some(next) = listed.next else { break };
        page = everything().after(next);
    }
    tally.finish()
}

fn everything() -> Page {
    Page::first(Page::MAX_LIMIT).unwrap_or_default()
}

struct Tally<'a> {
    tools: &'a Tools,
    out: &'a mut dyn Write,
    good: u64,
    bad: u64,
}

impl Tally<'_> {
    fn open(
        &mut self,
        column: &str,
        id: &str,
        stored: &[u8],
        binding: &Binding,
    ) -> Result<(), MaintenanceError> {
        match self.tools.sealer.open_bytes(stored, binding) {
            Ok(_) => self.good += 1,
            Err(error) => {
                self.bad += 1;
                writeln!(self.out, "{column} {id}: {error}")?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Finding, MaintenanceError> {
        writeln!(
            self.out,
            "{} sealed values open, {} do not",
            self.good, self.bad
        )?;
        Ok(if self.bad == 0 {
            Finding::Good
        } else {
            Finding::Bad
        })
    }
}
