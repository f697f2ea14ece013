//! `arkeep-server user …`

use std::io::{self, BufRead as _, Write};
use std::sync::Arc;

use arkeep_auth::password::{HashCost, HashPool};
use arkeep_auth::{PasswordHash, Passwords};
use arkeep_core::{SecretString, Timestamp, UserId};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Finding, MaintenanceError, Tools, open};
use crate::config::{NewUserArgs, UserCommand};
use crate::http::checks::Checks;
use crate::store::audit::Target;
use crate::store::users::{NewUser, User, UserEdit};
use crate::store::{Page, UserDirectory};

pub(super) async fn run(
    command: UserCommand,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    match command {
        UserCommand::List(data) => list(&open(data).await?, out).await,
        UserCommand::Create(args) => {
            let tools = open(args.data.clone()).await?;
            create(&tools, args, out).await
        }
        UserCommand::Disable { data, email } => disable(&open(data).await?, &email, out).await,
        UserCommand::ResetPassword { data, email } => {
            reset_password(&open(data).await?, &email, out).await
        }
    }
}

async fn list(tools: &Tools, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let everyone = || Page::first(Page::MAX_LIMIT).unwrap_or_default();
    let mut page = everyone();
    loop {
        let listed = UserDirectory::list(tools.store.as_ref(), &page).await?;
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

async fn create(
    tools: &Tools,
    args: NewUserArgs,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let display_name = args.display_name.unwrap_or_else(|| args.email.clone());
    let mut checks = Checks::default();
    checks.email(&args.email, "the address");
    checks.title(&display_name, "--display-name");
    if let Some((what, why)) = checks.first() {
        return Err(MaintenanceError::Refused(format!("{what} {why}")));
    }
    let now = tools.clock.now();
    let new = NewUser {
        id: UserId::mint(now, tools.entropy.as_ref()),
        email: args.email,
        display_name,
        role: args.role,
        password_hash: Some(read_password(tools).await?),
        created_at: now,
    };
    let made = UserDirectory::create(tools.store.as_ref(), &new).await?;
    let changes = json!({
        "email": {"before": null, "after": made.email},
        "display_name": {"before": null, "after": made.display_name},
        "role": {"before": null, "after": made.role},
        "password": "[changed]",
    });
    let target = Target::new("user", Some(made.id.to_string()));
    tools.record("user.create", target, changes).await?;
    writeln!(out, "{}  {}  {}", made.id, made.role, made.email)?;
    Ok(Finding::Good)
}

async fn disable(
    tools: &Tools,
    email: &str,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let user = find(tools, email).await?;
    let changes = json!({"enabled": {"before": user.enabled, "after": false}});
    let target = Target::new("user", Some(user.id.to_string()));
    let edit = UserEdit {
        enabled: false,
        ..unchanged(user, tools.clock.now())
    };
    UserDirectory::update(tools.store.as_ref(), &edit).await?;
    tools.record("user.disable", target, changes).await?;
    writeln!(
        out,
        "{email} is disabled, and every session of theirs has ended"
    )?;
    Ok(Finding::Good)
}

/// Sets the password that standard input holds, lets the user in without a second factor, and ends
/// every session.
async fn reset_password(
    tools: &Tools,
    email: &str,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let user = find(tools, email).await?;
    let id = user.id;
    let changes = json!({
        "password": "[changed]",
        "mfa": {"before": user.mfa, "after": false},
        "enabled": {"before": user.enabled, "after": true},
    });
    let edit = UserEdit {
        enabled: true,
        password_hash: Some(read_password(tools).await?),
        ..unchanged(user, tools.clock.now())
    };
    UserDirectory::update(tools.store.as_ref(), &edit).await?;
    tools.store.remove_factor(id).await?;
    let target = Target::new("user", Some(id.to_string()));
    tools.record("user.reset_password", target, changes).await?;
    writeln!(
        out,
        "the password of {email} is set, no second factor is asked for, and every session of \
         theirs has ended"
    )?;
    Ok(Finding::Good)
}

async fn find(tools: &Tools, email: &str) -> Result<User, MaintenanceError> {
    let found = UserDirectory::find_by_email(tools.store.as_ref(), email).await?;
    found.ok_or_else(|| MaintenanceError::Refused(format!("no user has the address {email}")))
}

fn unchanged(user: User, at: Timestamp) -> UserEdit {
    UserEdit {
        id: user.id,
        version: user.version,
        email: user.email,
        display_name: user.display_name,
        role: user.role,
        enabled: user.enabled,
        password_hash: user.password_hash,
        at,
    }
}

/// Hashes the line that standard input holds.
async fn read_password(tools: &Tools) -> Result<PasswordHash, MaintenanceError> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    let password = SecretString::from(line.trim_end_matches(['\r', '\n']));

    let pool = HashPool::start(1, 1)?;
    let passwords = Passwords::new(HashCost::default(), pool, Arc::clone(&tools.entropy));
    let hash = passwords.hash(&password).await;
    hash.map_err(|error| MaintenanceError::Refused(error.to_string()))
}
