//! Hooks, on the way into the server and out of it.

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Fallible, PASSWORD, Server};

const POLICIES: &str = "/api/v1/policies";

/// A server with a policy that has a hook in each list, and one caller of each role.
struct Stage {
    _server: Server,
    clock: Arc<ManualClock>,
    admin: Client,
    operator: Client,
    viewer: Client,
    stranger: Client,
    /// A policy as it is sent.
    body: Value,
    path: String,
}

impl Stage {
    async fn new() -> Fallible<Self> {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let server = Server::start_at(Arc::clone(&clock) as _).await?;
        let mut admin = server.set_up().await?;
        let mut clients = Vec::new();
        for role in ["operator", "viewer"] {
            let email = format!("{role}@example.org");
            let body = json!({"email": email, "password": PASSWORD, "role": role});
            admin.create("/api/v1/users", &body).await?;
            let mut client = server.client();
            client.log_in(&email, PASSWORD).await?;
            clients.push(client);
        }
        let (Some(viewer), Some(operator)) = (clients.pop(), clients.pop()) else {
            return Err("two users were made".into());
        };
        let body = super::resources::policy(&mut admin).await?;
        let with_hooks = with(&body, json!({"hooks": hooks()}));
        let policy = admin.create(POLICIES, &with_hooks).await?;
        let id = policy.get("id").and_then(Value::as_str).ok_or("no id")?;
        Ok(Self {
            path: format!("{POLICIES}/{id}"),
            stranger: server.client(),
            _server: server,
            clock,
            admin,
            operator,
            viewer,
            body,
        })
    }

    async fn hooks(&mut self) -> Fallible<Value> {
        let policy = self.admin.get(&self.path).await?.expect(200)?;
        Ok(policy.json.get("hooks").cloned().unwrap_or_default())
    }
}

fn hook(name: &str) -> Value {
    json!({"name": name, "exec": ["/usr/bin/true"], "timeout": 300})
}

fn hooks() -> Value {
    json!({
        "before": [hook("one"), hook("two")],
        "after": [hook("three")],
        "on_failure": [hook("four")],
    })
}

fn with(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// Everything that would set, change, move or remove a hook, well-formed or not.
fn changes() -> Vec<Value> {
    let renamed = json!([{"name": "uno", "exec": ["/usr/bin/true"], "timeout": 300}, hook("two")]);
    let slower = json!([{"name": "three", "exec": ["/usr/bin/true"], "timeout": 301}]);
    let nested = json!({"name": "one", "exec": {"before": [hook("one")]}});
    [
        // Nulls, on each level.
        json!(null),
        json!({"before": null}),
        json!({"before": null, "after": null, "on_failure": null}),
        json!({"before": [null]}),
        json!({"before": [{"name": "one", "exec": null, "shell": "true"}]}),
        // Lists.
        json!({"before": []}),
        json!({"before": [hook("two"), hook("one")]}),
        json!({"before": [hook("one"), hook("two"), hook("five")]}),
        json!({"on_failure": [hook("three")], "after": [hook("four")]}),
        json!([]),
        json!([[hook("one")]]),
        json!([hook("one"), hook("two")]),
        // Other names, inside a hook and for a list.
        json!({"before": renamed}),
        json!({"after": slower}),
        json!({"before": [{"title": "one", "exec": ["/usr/bin/true"]}]}),
        json!({"Before": [hook("one")]}),
        json!({"during": [hook("one")]}),
        json!({"during": null, "after": [hook("x")]}),
        // Something else where a list or a hook is meant.
        json!({"before": [nested]}),
        json!({"before": {"0": hook("one")}}),
        json!({"before": {"before": [hook("one")]}}),
        json!({"hooks": hooks()}),
        json!({"before": "true"}),
        json!({"before": ["true"]}),
        json!("true"),
        json!(7),
        // Hooks that nobody could run.
        json!({"before": [{"name": "x", "shell": "echo $(id)"}]}),
        json!({"before": [{"name": "x"}]}),
        json!({"before": [{"name": "one", "exec": ["/usr/bin/true"], "timeout": 300, "signature": "akh1.AA"}]}),
    ]
    .into()
}

/// H5
#[tokio::test]
async fn are_changed_by_nobody_but_an_admin_whatever_the_body_is() -> Fallible {
    let mut stage = Stage::new().await?;
    let before = stage.hooks().await?;

    for change in changes() {
        for also in [
            json!({}),
            json!({"name": "renamed"}),
            json!({"sources": []}),
        ] {
            let patch = with(&also, json!({"hooks": change}));
            for (client, status, code) in [
                (&mut stage.stranger, 401, "unauthorized"),
                (&mut stage.viewer, 403, "forbidden"),
                (&mut stage.operator, 403, "forbidden"),
            ] {
                let refused = client.patch(&stage.path, &patch).await?;
                let got = (refused.status, refused.code());
                assert_eq!(got, (status, code.to_owned()), "{patch}: {}", refused.text);
            }
        }
    }
    let removal = Some((
        "application/merge-patch+json",
        br#"{"hooks":null}"#.to_vec(),
    ));
    let refused = stage
        .operator
        .send_raw(Method::PATCH, &stage.path, removal, &[])
        .await?;
    assert_eq!(refused.code(), "forbidden");
    assert_eq!(stage.hooks().await?, before);
    Ok(())
}

/// H5
#[tokio::test]
async fn come_with_a_new_policy_from_nobody_but_an_admin() -> Fallible {
    let mut stage = Stage::new().await?;
    let made = stage.admin.get(POLICIES).await?.expect(200)?;
    // What leaves a new policy without a hook sets none.
    let sets = |change: &&Value| {
        let empty = [
            json!(null),
            json!({"before": null}),
            json!({"before": null, "after": null, "on_failure": null}),
            json!({"before": []}),
            json!([]),
        ];
        !empty.contains(change)
    };

    for change in changes().iter().filter(sets) {
        let body = with(&stage.body, json!({"hooks": change}));
        for (client, status, code) in [
            (&mut stage.stranger, 401, "unauthorized"),
            (&mut stage.viewer, 403, "forbidden"),
            (&mut stage.operator, 403, "forbidden"),
        ] {
            let refused = client.post(POLICIES, &body).await?;
            let got = (refused.status, refused.code());
            assert_eq!(got, (status, code.to_owned()), "{body}: {}", refused.text);
        }
    }
    let after = stage.admin.get(POLICIES).await?.expect(200)?;
    assert_eq!(after.json, made.json);
    Ok(())
}

/// H5
#[tokio::test]
async fn are_changed_by_an_admin_whose_login_is_fresh() -> Fallible {
    let mut stage = Stage::new().await?;
    let before = stage.hooks().await?;

    stage.clock.advance(Duration::from_secs(5 * 60));

    for change in changes() {
        let stale = stage
            .admin
            .patch(&stage.path, &json!({"hooks": change}))
            .await?;
        let got = (stale.status, stale.code());
        assert_eq!(got, (403, "step_up_required".to_owned()), "{change}");
    }
    let body = with(&stage.body, json!({"hooks": hooks()}));
    let stale = stage.admin.post(POLICIES, &body).await?;
    assert_eq!(stale.code(), "step_up_required");
    assert_eq!(stage.hooks().await?, before);

    let shown = json!({"password": PASSWORD});
    let answer = stage.admin.post("/api/v1/auth/step-up", &shown).await?;
    stage.admin.bearer = Some(answer.expect(200)?.string("/access_token"));
    let patch = json!({"hooks": {"before": [hook("five")], "after": null}});
    stage.admin.patch(&stage.path, &patch).await?.expect(200)?;
    assert_eq!(stage.hooks().await?["before"][0]["name"], "five");
    assert_eq!(stage.hooks().await?["after"], json!([]));
    assert_eq!(stage.hooks().await?["on_failure"][0]["name"], "four");
    Ok(())
}

/// H5: what is there may stay, in whatever shape an operator sends it back.
#[tokio::test]
async fn do_not_keep_an_operator_from_everything_else() -> Fallible {
    let mut stage = Stage::new().await?;
    let before = stage.hooks().await?;

    for patch in [
        json!({"name": "renamed"}),
        json!({"name": "again", "hooks": before}),
        json!({"hooks": {}}),
        json!({"hooks": {"after": before["after"]}}),
    ] {
        stage
            .operator
            .patch(&stage.path, &patch)
            .await?
            .expect(200)?;
    }

    assert_eq!(stage.hooks().await?, before);
    Ok(())
}

/// H1, H2: the refusal says where, by which rule, and what to write instead.
#[tokio::test]
async fn are_refused_with_a_span_a_rule_and_a_hint() -> Fallible {
    let mut stage = Stage::new().await?;
    let line = "pg_dump db | gzip > $(hostname).gz";
    let patch = json!({"hooks": {"after": [hook("a"), {"name": "b", "shell": line}]}});

    let refused = stage.admin.patch(&stage.path, &patch).await?.expect(422)?;

    assert_eq!(refused.code(), "validation_failed");
    let error = &refused.json["errors"][0];
    assert_eq!(error["field"], "hooks.after[1].shell");
    assert_eq!(error["rule"], "substitution");
    let at = line.find("$(").ok_or("it is there")?;
    assert_eq!(error["span"], json!([at, at + 2]));
    assert_eq!(error["hint"], error["detail"]);
    assert!(refused.string("/errors/0/hint").contains("exec"));
    // What is wrong with the hook as a whole has no span.
    let patch = json!({"hooks": {"after": [{"name": "b", "exec": ["gzip"]}]}});
    let refused = stage.admin.patch(&stage.path, &patch).await?.expect(422)?;
    let error = &refused.json["errors"][0];
    assert_eq!(error["field"], "hooks.after[0]");
    assert_eq!(
        (&error["rule"], &error["span"]),
        (&json!("program"), &Value::Null)
    );
    // And other faults have no rule.
    let refused = stage
        .admin
        .patch(&stage.path, &json!({"name": ""}))
        .await?
        .expect(422)?;
    assert_eq!(refused.json["errors"][0].get("rule"), None);
    Ok(())
}

/// H1, H2: every hook that is refused is named at once, each with its own place, and beside what
/// else is wrong.
#[tokio::test]
async fn are_all_named_when_several_are_refused() -> Fallible {
    let mut stage = Stage::new().await?;
    let before = stage.hooks().await?;
    let lines = ["ls *.sql", "pg_dump db | gzip > /srv/db.gz", "echo `id`"];
    let shell = |line: &str| json!({"name": "x", "shell": line});
    let patch = json!({
        "max_age": 0,
        "hooks": {
            "before": lines.map(shell),
            "after": [hook("fine"), {"name": "x", "exec": ["gzip"]}],
            "on_failure": [shell("id &"), {"name": "x", "shell": "id", "exec": ["/bin/id"]}],
        },
    });

    let refused = stage.admin.patch(&stage.path, &patch).await?.expect(422)?;

    let errors = refused.json["errors"].as_array().ok_or("a list")?;
    let told: Vec<_> = errors
        .iter()
        .map(|error| json!([error["field"], error["rule"], error["span"]]))
        .collect();
    let expected = json!([
        ["max_age", null, null],
        ["hooks.before[0].shell", "glob", [3, 4]],
        ["hooks.before[2].shell", "substitution", [5, 6]],
        ["hooks.after[1]", "program", null],
        ["hooks.on_failure[0].shell", "background", [3, 4]],
        ["hooks.on_failure[1]", "form", null],
    ]);
    assert_eq!(json!(told), expected);
    for error in &errors[1..] {
        let hint = error["hint"].as_str().ok_or("a hint")?;
        assert!(!hint.is_empty());
    }
    assert_eq!(stage.hooks().await?, before);

    // A list that is too long is one fault, however many of its hooks are bad.
    let patch = json!({"hooks": {"before": vec![shell("echo `id`"); 17], "after": [shell("~")]}});
    let refused = stage.admin.patch(&stage.path, &patch).await?.expect(422)?;
    let errors = refused.json["errors"].as_array().ok_or("a list")?;
    let fields: Vec<_> = errors.iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["hooks.before", "hooks.after[0].shell"]);

    // A new policy is told the same.
    let hooks = json!({"after": [shell("a="), shell("$X")]});
    let body = with(&stage.body, json!({"hooks": hooks}));
    let refused = stage.admin.post(POLICIES, &body).await?.expect(422)?;
    let errors = refused.json["errors"].as_array().ok_or("a list")?;
    let rules: Vec<_> = errors.iter().map(|error| &error["rule"]).collect();
    assert_eq!(rules, ["assignment", "expansion"]);
    Ok(())
}
