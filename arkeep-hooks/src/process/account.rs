//! The user that hooks run as.

use std::fs;

use rustix::process::{Gid, Uid, geteuid};

use crate::run::RunError;

/// A user of this machine, with all groups.
///
/// Read from `/etc/passwd` and `/etc/group`: a service account belongs to the machine, and a
/// directory server that is away must not decide what a hook may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    pub(super) home: String,
}

impl Account {
    /// Looks a user up by name.
    pub fn by_name(name: &str) -> Result<Self, RunError> {
        let user = |why: &str| RunError::User(format!("{name}: {why}"));
        let passwd = fs::read_to_string("/etc/passwd")
            .map_err(|error| user(&format!("/etc/passwd cannot be read: {error}")))?;
        let group = fs::read_to_string("/etc/group")
            .map_err(|error| user(&format!("/etc/group cannot be read: {error}")))?;
        Self::parse(name, &passwd, &group).ok_or_else(|| user("no such user in /etc/passwd"))
    }

    fn parse(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let (uid, gid, home) = passwd.lines().find_map(|line| {
            let (found, uid, gid, home) = passwd_fields(line)?;
            (found == name).then(|| (uid, gid, home.to_owned()))
        })?;
        let mut groups: Vec<Gid> = group
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let (_, _, gid, members) = (
                    fields.next()?,
                    fields.next()?,
                    fields.next()?,
                    fields.next()?,
                );
                members
                    .split(',')
                    .any(|member| member == name)
                    .then(|| gid.parse().ok().map(Gid::from_raw))?
            })
            .collect();
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Some(Self {
            uid,
            gid,
            groups,
            home,
        })
    }
}

/// The home of the user that this process runs as.
pub(super) fn own_home() -> String {
    let own = geteuid();
    fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|passwd| {
            passwd
                .lines()
                .filter_map(passwd_fields)
                .find(|(_, uid, _, _)| *uid == own)
                .map(|(_, _, _, home)| home.to_owned())
        })
        .unwrap_or_else(|| "/".to_owned())
}

fn passwd_fields(line: &str) -> Option<(&str, Uid, Gid, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?;
    // -1 means "leave it as it is" to the kernel.
    (uid != u32::MAX && gid != u32::MAX)
        .then(|| (name, Uid::from_raw(uid), Gid::from_raw(gid), home))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nhooks:x:990:991:,,,:/srv/hooks:/bin/false\n\
                          odd:x:4294967295:5:::/\nshort:x\n";
    const GROUP: &str = "root:x:0:\nbackup:x:34:other,hooks\ndocker:x:998:hook\nhooks:x:991:\n";

    /// H7
    #[test]
    fn has_its_own_group_and_those_that_list_it() {
        let account = Account::parse("hooks", PASSWD, GROUP).unwrap();

        assert_eq!((account.uid.as_raw(), account.gid.as_raw()), (990, 991));
        assert_eq!(account.groups, [Gid::from_raw(34), Gid::from_raw(991)]);
        assert_eq!(account.home, "/srv/hooks");
    }

    /// H7
    #[test]
    fn is_not_made_from_a_line_that_is_broken_or_means_no_change() {
        assert_eq!(Account::parse("odd", PASSWD, GROUP), None);
        assert_eq!(Account::parse("short", PASSWD, GROUP), None);
        assert_eq!(Account::parse("nobody-at-all", PASSWD, GROUP), None);
    }
}
