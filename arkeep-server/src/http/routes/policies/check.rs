//! Does a policy make sense?

use std::collections::HashSet;
use std::str::FromStr as _;

use arkeep_core::ExposeSecret;
use arkeep_core::policy::{Hook, Schedule, Source};
use arkeep_hooks::{HookRefusal, HookSpec, RawHook};
use croner::Cron;
use jiff::Zoned;

use super::shape::Sent;
use crate::http::checks::{Checks, is_plain};
use crate::http::problem::{Finding, Problem};
use crate::store::policies::Window;

/// Refuses a policy that could not run, or not as it reads.
pub(super) fn policy(sent: &Sent) -> Result<(), Problem> {
    let mut checks = Checks::default();
    checks.title(&sent.name, "name");
    sources(&mut checks, &sent.sources);
    patterns(&mut checks, sent);
    destinations(&mut checks, sent);
    timing(&mut checks, sent);
    if let Some(password) = &sent.repository_password {
        let password = password.expose_secret();
        // restic reads one line.
        let fine = (1..=1_024).contains(&password.len()) && is_plain(password);
        checks.that(
            fine,
            "repository_password",
            "must be one line of 1 to 1024 bytes",
        );
    }
    let limits = &sent.limits;
    for (name, value) in [
        ("limits.upload_kib", limits.upload_kib),
        ("limits.download_kib", limits.download_kib),
        ("limits.cpus", limits.cpus),
    ] {
        checks.that(
            value != Some(0),
            name,
            "must be at least 1; leave it out for no limit",
        );
    }
    hooks(&mut checks, sent);
    checks.finish()
}

fn sources(checks: &mut Checks, sources: &[Source]) {
    checks.that(
        !sources.is_empty(),
        "sources",
        "must name at least one source",
    );
    checks.that(sources.len() <= MANY, "sources", TOO_MANY);
    for (index, source) in sources.iter().enumerate() {
        match source {
            Source::Path(path) => checks.absolute_path(path, format!("sources[{index}].path")),
            Source::DockerVolume(name) => {
                let fine = name.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && name.len() <= 255
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
                let field = format!("sources[{index}].docker_volume");
                checks.that(fine, field, "must be a volume's name");
            }
        }
    }
}

fn patterns(checks: &mut Checks, sent: &Sent) {
    checks.that(sent.excludes.len() <= MANY, "excludes", TOO_MANY);
    for (index, pattern) in sent.excludes.iter().enumerate() {
        // restic reads them line by line.
        let fine = !pattern.trim().is_empty() && is_plain(pattern) && pattern.len() <= 4_096;
        checks.that(
            fine,
            format!("excludes[{index}]"),
            "must be a pattern on one line",
        );
    }
    checks.that(
        sent.exclude_larger_than != Some(0),
        "exclude_larger_than",
        "must be at least 1",
    );
    checks.that(sent.tags.len() <= 64, "tags", "may have 64 entries at most");
    for (index, tag) in sent.tags.iter().enumerate() {
        // restic takes a comma for the end of a tag; by the prefixes we find our own snapshots.
        let fine = !tag.trim().is_empty()
            && tag.len() <= 255
            && is_plain(tag)
            && !tag.contains(',')
            && !OWN_TAGS.iter().any(|own| tag.starts_with(own));
        let detail = "must be a word without comma that does not begin with `policy:` or `job:`";
        checks.that(fine, format!("tags[{index}]"), detail);
    }
}

fn destinations(checks: &mut Checks, sent: &Sent) {
    let destinations = &sent.destinations;
    checks.that(
        !destinations.is_empty(),
        "destinations",
        "must name at least one destination",
    );
    checks.that(
        destinations.len() <= 16,
        "destinations",
        "may have 16 entries at most",
    );
    let mut seen = HashSet::new();
    for (index, destination) in destinations.iter().enumerate() {
        let first = seen.insert(destination.destination_id);
        checks.that(
            first,
            format!("destinations[{index}].destination_id"),
            "comes twice",
        );
    }
}

fn timing(checks: &mut Checks, sent: &Sent) {
    if let Some(plan) = &sent.schedule {
        schedule(checks, plan, "schedule");
    }
    if let Some(verify) = &sent.verify {
        schedule(checks, &verify.schedule, "verify.schedule");
        let fine = verify.read_data_percent <= 100;
        checks.that(fine, "verify.read_data_percent", "must be 0 to 100");
    }
    if let Some(drill) = &sent.drill {
        schedule(checks, &drill.schedule, "drill.schedule");
        let fine = (1..=10_000).contains(&drill.sample_files);
        checks.that(fine, "drill.sample_files", "must be 1 to 10000");
    }
    if let Some(Window { from, to, timezone }) = &sent.window {
        checks.that(
            is_time_of_day(from),
            "window.from",
            "must be a time such as 22:00",
        );
        checks.that(
            is_time_of_day(to),
            "window.to",
            "must be a time such as 06:00",
        );
        checks.that(from != to, "window.to", "must differ from `from`");
        checks.timezone(timezone, "window.timezone");
    }
    checks.that(
        sent.offline_grace <= A_YEAR,
        "offline_grace",
        "must be a year at most",
    );
    for (name, value) in [("max_age", sent.max_age), ("deadline", sent.deadline)] {
        let fine = value.is_none_or(|seconds| (60..=A_YEAR).contains(&seconds));
        checks.that(fine, name, "must be a minute to a year");
    }
}

fn schedule(checks: &mut Checks, schedule: &Schedule, field: &str) {
    let has_its_fields =
        schedule.cron.starts_with('@') || schedule.cron.split_ascii_whitespace().count() == 5;
    let cron = Cron::from_str(&schedule.cron)
        .ok()
        .filter(|_| has_its_fields && schedule.cron.len() <= 255);
    checks.that(
        cron.is_some(),
        format!("{field}.cron"),
        "must be five fields of cron, or such as @daily",
    );
    let comes = |cron: Cron| cron.find_next_occurrence(&Zoned::default(), false).is_ok();
    checks.that(
        cron.is_none_or(comes),
        format!("{field}.cron"),
        "names a moment that never comes",
    );
    checks.timezone(&schedule.timezone, format!("{field}.timezone"));
    checks.that(
        schedule.jitter <= 86_400,
        format!("{field}.jitter"),
        "must be a day at most",
    );
}

fn is_time_of_day(text: &str) -> bool {
    let two = |part: &str, below: u8| {
        part.len() == 2
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|number| number < below)
    };
    text.split_once(':')
        .is_some_and(|(hour, minute)| two(hour, 24) && two(minute, 60))
}

// The agent judges again, by its owner's policy; what no agent could run is refused here.
fn hooks(checks: &mut Checks, sent: &Sent) {
    let lists = [
        ("before", &sent.hooks.before),
        ("after", &sent.hooks.after),
        ("on_failure", &sent.hooks.on_failure),
    ];
    for (phase, hooks) in lists {
        if hooks.len() > MANY_HOOKS {
            let field = format!("hooks.{phase}");
            checks.that(false, field, "may have 16 entries at most");
            continue;
        }
        for (index, hook) in hooks.iter().enumerate() {
            if let Err(refusal) = HookSpec::check(raw(hook)) {
                refused(checks, format!("hooks.{phase}[{index}]"), &refusal);
            }
        }
    }
}

// A span counts the bytes of the shell text, so the field it goes with is that text.
fn refused(checks: &mut Checks, hook: String, refusal: &HookRefusal) {
    let span = refusal.span().map(|span| [span.start, span.end]);
    let field = match span {
        Some(_) => format!("{hook}.shell"),
        None => hook,
    };
    let finding = Finding {
        rule: refusal.rule().name(),
        span,
        hint: refusal.hint().to_owned(),
    };
    checks.found(field, finding);
}

fn raw(hook: &Hook) -> RawHook {
    RawHook {
        name: hook.name.clone(),
        exec: hook.exec.clone(),
        shell: hook.shell.clone(),
        timeout: hook.timeout.into(),
        signature: hook.signature.clone(),
    }
}

const OWN_TAGS: [&str; 2] = ["policy:", "job:"];
const MANY: usize = 1_000;
const MANY_HOOKS: usize = 16;
const TOO_MANY: &str = "may have 1000 entries at most";
const A_YEAR: u64 = 366 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::body;

    fn faults(change: Value) -> Vec<String> {
        let mut policy = json!({
            "name": "nightly",
            "agent_id": "0190a0b0-0000-7000-8000-000000000000",
            "sources": [{"path": "/srv"}],
            "destinations": [{"destination_id": "0190a0b0-0000-7000-8000-000000000001"}],
        });
        if let (Some(policy), Value::Object(change)) = (policy.as_object_mut(), change) {
            policy.extend(change);
        }
        let judged = body::convert::<Sent>(policy).and_then(|sent| super::policy(&sent));
        match judged {
            Ok(()) => Vec::new(),
            Err(problem) => problem
                .errors()
                .iter()
                .map(|error| error.field.clone())
                .collect(),
        }
    }

    #[test]
    fn accepts_every_field_of_the_contract() {
        let all = json!({
            "enabled": false,
            "sources": [{"path": "--password-command=touch /tmp/x"}, {"docker_volume": "db_1"}],
            "excludes": ["*.tmp"], "exclude_larger_than": 1_000_000, "one_file_system": true,
            "tags": ["prod"],
            "schedule": {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "jitter": 600},
            "catch_up": "none", "offline_grace": 60,
            "destinations": [{
                "destination_id": "0190a0b0-0000-7000-8000-000000000001",
                "path": "a/b", "retention": {"keep_last": 3},
            }],
            "repository_password": "hunter2",
            "retention": {"keep_last": 1, "hourly": 2, "daily": 3, "weekly": 4, "monthly": 5,
                "yearly": 6, "within": 3600},
            "hooks": {
                "before": [{"name": "dump", "exec": ["/usr/bin/pg_dump", "-Fc"], "timeout": 60}],
                "after": [], "on_failure": [],
            },
            "limits": {"upload_kib": 1, "download_kib": 1, "cpus": 1, "io_nice": true},
            "window": {"from": "22:00", "to": "06:00", "timezone": "UTC"},
            "verify": {"schedule": {"cron": "@weekly"}, "read_data_percent": 5},
            "drill": {"schedule": {"cron": "@monthly"}, "sample_files": 10},
            "max_age": 90_000, "deadline": 3_600,
        });

        // A source that is no absolute path is the one thing that is wrong with it.
        assert_eq!(faults(all), ["sources[0].path"]);
        assert_eq!(faults(json!({})), Vec::<String>::new());
    }

    /// S4
    #[test]
    fn a_policy_that_could_prove_nothing_is_refused() {
        assert_eq!(faults(json!({"sources": []})), ["sources"]);
        assert_eq!(faults(json!({"destinations": []})), ["destinations"]);
        assert_eq!(
            faults(json!({"sources": [{"path": "srv"}]})),
            ["sources[0].path"]
        );
    }

    #[test]
    fn names_each_fault() {
        let twice = json!({"destination_id": "0190a0b0-0000-7000-8000-000000000001"});
        for (change, field) in [
            (json!({"name": ""}), "name"),
            (json!({"agent_id": "x"}), "agent_id"),
            (
                json!({"sources": [{"docker_volume": "../x"}]}),
                "sources[0].docker_volume",
            ),
            (json!({"excludes": ["a\nb"]}), "excludes[0]"),
            (json!({"tags": ["a,b"]}), "tags[0]"),
            (json!({"tags": ["policy:x"]}), "tags[0]"),
            (
                json!({"destinations": [twice, twice]}),
                "destinations[1].destination_id",
            ),
            (
                json!({"destinations": [{"destination_id": "0190a0b0-0000-7000-8000-000000000001",
                "path": "../x"}]}),
                "destinations[0].path",
            ),
            (json!({"schedule": {"cron": "61 * * * *"}}), "schedule.cron"),
            (
                json!({"schedule": {"cron": "* * * * * *"}}),
                "schedule.cron",
            ),
            (json!({"schedule": {"cron": "0 0 30 2 *"}}), "schedule.cron"),
            (
                json!({"schedule": {"cron": "@daily", "timezone": "Mars"}}),
                "schedule.timezone",
            ),
            (
                json!({"schedule": {"cron": "@daily", "jitter": 86_401}}),
                "schedule.jitter",
            ),
            (
                json!({"window": {"from": "24:00", "to": "06:00", "timezone": "UTC"}}),
                "window.from",
            ),
            (
                json!({"window": {"from": "6:00", "to": "07:00", "timezone": "UTC"}}),
                "window.from",
            ),
            (
                json!({"verify": {"schedule": {"cron": "@daily"}, "read_data_percent": 101}}),
                "verify.read_data_percent",
            ),
            (
                json!({"drill": {"schedule": {"cron": "@daily"}, "sample_files": 0}}),
                "drill.sample_files",
            ),
            (json!({"repository_password": ""}), "repository_password"),
            (
                json!({"repository_password": "a\nb"}),
                "repository_password",
            ),
            (json!({"limits": {"cpus": 0}}), "limits.cpus"),
            (json!({"max_age": 0}), "max_age"),
            (
                json!({"hooks": {"before": [{"name": "x"}]}}),
                "hooks.before[0]",
            ),
            (
                json!({"hooks": {"after": [{"name": "x", "exec": []}]}}),
                "hooks.after[0]",
            ),
            (
                json!({"hooks": {"on_failure": [{"name": "x", "exec": ["/x"], "timeout": 0}]}}),
                "hooks.on_failure[0]",
            ),
        ] {
            assert_eq!(faults(change.clone()), [field], "{change}");
        }
    }
}
