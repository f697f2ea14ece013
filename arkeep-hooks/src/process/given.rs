//! What a hook is given: its arguments and its environment, and nothing else.

use std::ffi::CString;
use std::io;

use super::Settings;
use super::account::own_home;
use super::kernel::ExecVectors;
use crate::hook::Command;
use crate::policy::ApprovedHook;
use crate::run::HookContext;

pub(super) fn vectors(
    settings: &Settings,
    hook: &ApprovedHook,
    context: &HookContext,
) -> io::Result<ExecVectors> {
    let argv = match hook.spec().command() {
        Command::Exec(argv) => argv
            .iter()
            .map(|arg| c_string(arg))
            .collect::<Result<_, _>>()?,
        Command::Shell(script) => ["/bin/sh", "-c", &script.to_string(), "hook"]
            .into_iter()
            .map(c_string)
            .collect::<Result<_, _>>()?,
    };
    let home = settings
        .account
        .as_ref()
        .map_or_else(own_home, |account| account.home.clone());
    let mut environment = vec![
        c_string(&format!("PATH={}", settings.path))?,
        c_string(&format!("HOME={home}"))?,
        c_string("LANG=C.UTF-8")?,
    ];
    for (name, value) in context.variables() {
        if !is_plain(&value) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is not plain letters, digits and .:_-"),
            ));
        }
        environment.push(c_string(&format!("{name}={value}"))?);
    }
    Ok(ExecVectors::new(argv, environment))
}

/// A value that no shell splits or expands, also without quotes around the variable. Ids and states
/// look like this; a server that sends anything else is up to something.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:_-".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a value"))
}
