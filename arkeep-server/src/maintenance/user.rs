//! `arkeep-server user …`

use std::io::{self, BufRead as _, Write};
use std::sync::Arc;

use arkeep_auth::Passwords;
use arkeep_auth::password::{HashCost, HashPool};
use arkeep_core::SecretString;
use zeroize::Zeroizing;

use super::{Finding, MaintenanceError, Tools};
use crate::store::users::UserEdit;
use crate::store::{FactorRecords as _, Page, UserDirectory};

pub(super) async fn list(tools: &Tools, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let everyone = || Page::first(Page::MAX_LIMIT).unwrap_or_default();
    let mut page = everyone();
    loop {
        let listed = UserDirectory::list(&tools.store, &page).await?;
        for user in listed.items {
            let enabled = if user.enabled { "enabled" } else { "disabled" };
            writeln!(
                out,
                "{}  {:<8}  {enabled:<8}  {}",
                user.id, user.role, user.email
            )?;
        }
        let Some(next) = listed.next else { break };
        page = everyone().after(next);
    }
    Ok(Finding::Good)
}

/// Sets the password that standard input holds, lets the user in without a second factor, and ends
/// every session.
pub(super) async fn reset_password(
    tools: &Tools,
    email: &str,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let found = UserDirectory::find_by_email(&tools.store, email).await?;
    let user = found
        .ok_or_else(|| MaintenanceError::Refused(format!("no user has the address {email}")))?;
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    let password = SecretString::from(line.trim_end_matches(['\r', '\n']));

    let pool = HashPool::start(1, 1)?;
    let passwords = Passwords::new(HashCost::default(), pool, Arc::clone(&tools.entropy));
    let hash = passwords.hash(&password).await;
    let hash = hash.map_err(|error| MaintenanceError::Refused(error.to_string()))?;
    let edit = UserEdit {
        id: user.id,
        version: user.version,
        email: user.email,
        display_name: user.display_name,
        role: user.role,
        enabled: true,
        password_hash: Some(hash),
        at: tools.clock.now(),
    };
    UserDirectory::update(&tools.store, &edit).await?;
    tools.store.remove_factor(user.id).await?;
    writeln!(
        out,
        "the password of {email} is set, no second factor is asked for, and every session of \
         theirs has ended"
    )?;
    Ok(Finding::Good)
}
