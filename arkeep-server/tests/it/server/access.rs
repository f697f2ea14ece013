use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use arkeep_server::http::access::Needs;
use reqwest::Method;
use serde_json::json;

use super::client::Client;
use super::{ADA, Fallible, PASSWORD, Server};

/// A11: a route that is added and not listed here fails.
#[tokio::test]
async fn the_table_of_roles_is_this_one() -> Fallible {
    let server = Server::start().await?;

    let lines = server.rules.iter().map(|rule| {
        let needs = match rule.needs {
            Needs::Nothing => "anyone".to_owned(),
            Needs::Role(role, scope) => format!("{role} or token for {scope}"),
            Needs::FreshRole(role) => format!("{role}, fresh"),
            Needs::Person => "person".to_owned(),
            Needs::FreshPerson => "person, fresh".to_owned(),
        };
        format!("{:<6} {:<38} {needs}\n", rule.method.as_str(), rule.path)
    });

    insta::assert_snapshot!(lines.collect::<String>(), @r#"
    GET    /health/live                           anyone
    GET    /health/ready                          anyone
    GET    /metrics                               anyone
    GET    /.well-known/jwks.json                 anyone
    GET    /api/v1/setup                          anyone
    POST   /api/v1/setup                          anyone
    POST   /api/v1/auth/login                     anyone
    POST   /api/v1/auth/refresh                   anyone
    POST   /api/v1/auth/logout                    anyone
    POST   /api/v1/auth/logout-all                person
    POST   /api/v1/auth/step-up                   person
    GET    /api/v1/auth/sessions                  person
    DELETE /api/v1/auth/sessions/{id}             person
    POST   /api/v1/auth/totp                      person, fresh
    POST   /api/v1/auth/totp/confirm              person, fresh
    DELETE /api/v1/auth/totp                      person, fresh
    POST   /api/v1/auth/recovery-codes            person, fresh
    GET    /api/v1/auth/tokens                    person
    POST   /api/v1/auth/tokens                    person
    DELETE /api/v1/auth/tokens/{id}               person
    GET    /api/v1/auth/oidc/providers            anyone
    GET    /api/v1/auth/oidc/callback             anyone
    GET    /api/v1/auth/oidc/{id}/login           anyone
    GET    /api/v1/oidc-providers                 admin, fresh
    POST   /api/v1/oidc-providers                 admin, fresh
    GET    /api/v1/oidc-providers/{id}            admin, fresh
    PATCH  /api/v1/oidc-providers/{id}            admin, fresh
    DELETE /api/v1/oidc-providers/{id}            admin, fresh
    GET    /api/v1/users/me                       viewer or token for read
    PATCH  /api/v1/users/me                       person
    GET    /api/v1/users                          admin or token for admin
    POST   /api/v1/users                          admin or token for admin
    GET    /api/v1/users/{id}                     admin or token for admin
    PATCH  /api/v1/users/{id}                     admin or token for admin
    DELETE /api/v1/users/{id}                     admin or token for admin
    POST   /api/v1/users/{id}/revoke-sessions     admin or token for admin
    GET    /api/v1/agents                         viewer or token for read
    POST   /api/v1/agents                         admin or token for admin
    GET    /api/v1/agents/{id}                    viewer or token for read
    PATCH  /api/v1/agents/{id}                    admin or token for admin
    DELETE /api/v1/agents/{id}                    admin or token for admin
    POST   /api/v1/agents/{id}/join-token         admin, fresh
    POST   /api/v1/agents/{id}/revoke             admin, fresh
    POST   /api/v1/agents/{id}/approve            admin, fresh
    GET    /api/v1/destinations                   viewer or token for read
    POST   /api/v1/destinations                   admin or token for admin
    GET    /api/v1/destinations/{id}              viewer or token for read
    PATCH  /api/v1/destinations/{id}              admin or token for admin
    DELETE /api/v1/destinations/{id}              admin or token for admin
    POST   /api/v1/destinations/{id}/test         operator or token for run
    GET    /api/v1/policies                       viewer or token for read
    POST   /api/v1/policies                       operator or token for policies
    GET    /api/v1/policies/{id}                  viewer or token for read
    PATCH  /api/v1/policies/{id}                  operator or token for policies
    DELETE /api/v1/policies/{id}                  operator or token for policies
    POST   /api/v1/policies/{id}/run              operator or token for run
    POST   /api/v1/policies/{id}/verify           operator or token for run
    GET    /api/v1/jobs                           viewer or token for read
    GET    /api/v1/jobs/{id}                      viewer or token for read
    POST   /api/v1/jobs/{id}/cancel               operator or token for run
    GET    /api/v1/jobs/{id}/log                  viewer or token for read
    GET    /api/v1/snapshots                      viewer or token for read
    GET    /api/v1/snapshots/{id}                 viewer or token for read
    POST   /api/v1/snapshots/{id}/restore         operator or token for restore
    GET    /api/v1/channels                       admin or token for admin
    POST   /api/v1/channels                       admin or token for admin
    GET    /api/v1/channels/{id}                  admin or token for admin
    PATCH  /api/v1/channels/{id}                  admin or token for admin
    DELETE /api/v1/channels/{id}                  admin or token for admin
    POST   /api/v1/channels/{id}/test             admin or token for admin
    GET    /api/v1/deliveries                     admin or token for admin
    GET    /api/v1/audit                          admin or token for admin
    GET    /api/v1/vault                          admin, fresh
    POST   /api/v1/vault/rotate                   admin, fresh
    GET    /api/v1/ca                             admin, fresh
    POST   /api/v1/ca/rotate                      admin, fresh
    "#);
    Ok(())
}

/// A11, A12
#[tokio::test]
async fn what_takes_a_fresh_login_is_refused_to_an_old_one() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let fresh = server.rules.iter().filter(|rule| rule.needs.fresh());

    clock.advance(Duration::from_secs(5 * 60));

    for rule in fresh {
        let path = rule
            .path
            .replace("{id}", "0190a0b0-0000-7000-8000-000000000000");
        let answer = admin.send(rule.method.clone(), &path, None, &[]).await?;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "step_up_required"),
            "{path}"
        );
    }
    let shown = json!({"password": PASSWORD});
    let answer = admin
        .post("/api/v1/auth/step-up", &shown)
        .await?
        .expect(200)?;
    admin.bearer = Some(answer.string("/access_token"));
    let path = "/api/v1/agents/0190a0b0-0000-7000-8000-000000000000/revoke";
    admin.post(path, &json!({})).await?.expect(404)?;
    Ok(())
}

/// H5
#[tokio::test]
async fn only_an_admin_with_a_fresh_login_changes_a_hook() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let mut operator = user(&server, admin.clone(), "operator").await?;
    let mut viewer = user(&server, admin.clone(), "viewer").await?;
    let mut body = super::resources::policy(&mut admin).await?;
    let hook = json!({"name": "dump", "exec": ["/usr/bin/pg_dump"]});
    let hooks = json!({"before": [hook]});
    let policy = operator.create("/api/v1/policies", &body).await?;
    let path = format!(
        "/api/v1/policies/{}",
        policy["id"].as_str().unwrap_or_default()
    );

    body["name"] = json!("with hooks");
    body["hooks"] = hooks.clone();
    let patches = [
        json!({"hooks": hooks}),
        json!({"hooks": {"after": [hook]}}),
        json!({"hooks": {"before": [hook], "after": null}, "name": "other"}),
    ];
    for (client, code) in [(&mut operator, "forbidden"), (&mut viewer, "forbidden")] {
        let refused = client.post("/api/v1/policies", &body).await?;
        assert_eq!((refused.status, refused.code().as_str()), (403, code));
        for patch in &patches {
            let refused = client.patch(&path, patch).await?;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (403, code),
                "{patch}"
            );
        }
    }

    admin
        .patch(&path, &json!({"hooks": hooks}))
        .await?
        .expect(200)?;
    // What is there may stay, and an operator may change everything else.
    operator
        .patch(&path, &json!({"name": "renamed"}))
        .await?
        .expect(200)?;
    operator
        .patch(&path, &json!({"hooks": hooks}))
        .await?
        .expect(200)?;
    // Taking a hook away is a change, too.
    operator
        .patch(&path, &json!({"hooks": null}))
        .await?
        .expect(403)?;
    operator
        .patch(&path, &json!({"hooks": {"before": []}}))
        .await?
        .expect(403)?;

    clock.advance(Duration::from_secs(5 * 60));
    let stale = admin.patch(&path, &json!({"hooks": null})).await?;
    assert_eq!(
        (stale.status, stale.code().as_str()),
        (403, "step_up_required")
    );
    Ok(())
}

/// H5: whatever the body looks like, whoever is no admin with a fresh login changes no hook.
#[tokio::test(flavor = "multi_thread")]
async fn no_body_smuggles_a_hook_in_or_out() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let mut body = super::resources::policy(&mut admin).await?;
    body["hooks"] = json!({"before": [{"name": "dump", "exec": ["/usr/bin/pg_dump"]}]});
    let made = admin.create("/api/v1/policies", &body).await?;
    let path = format!("/api/v1/policies/{}", made["id"].as_str().unwrap_or(""));
    let before = admin.get(&path).await?.expect(200)?.json;
    let mut callers = vec![
        user(&server, admin.clone(), "viewer").await?,
        user(&server, admin.clone(), "operator").await?,
    ];
    for scope in ["policies", "admin"] {
        callers.push(super::tokens::program(&mut admin, &[scope]).await?);
    }
    // An admin whose login is old.
    callers.push(admin.clone());
    clock.advance(Duration::from_secs(5 * 60));

    let evil = r#"{"name":"x","exec":["/bin/sh"]}"#;
    let shapes = [
        r#"{"hooks":null}"#.to_owned(),
        r#"{"hooks":[]}"#.to_owned(),
        r#"{"hooks":{"before":null}}"#.to_owned(),
        r#"{"hooks":{"before":[]}}"#.to_owned(),
        r#"{"hooks":{"before":[null]}}"#.to_owned(),
        format!(r#"{{"hooks":[{evil}]}}"#),
        format!(r#"{{"hooks":{{"before":{evil}}}}}"#),
        format!(r#"{{"hooks":{{"before":[{evil}]}}}}"#),
        format!(r#"{{"hooks":{{"after":[{evil}]}}}}"#),
        format!(r#"{{"hooks":{{"on_failure":[{evil}],"before":null}},"name":"renamed"}}"#),
        format!(r#"{{"hooks":{{"on_failure":[{evil}]}},"enabled":false}}"#),
        format!(r#"{{"ho\u006fks":{{"after":[{evil}]}}}}"#),
        format!(r#"{{"hooks":{{}},"hooks":{{"after":[{evil}]}}}}"#),
        format!(r#"{{"Hooks":{{"after":[{evil}]}}}}"#),
        format!(r#"{{"hooks.after":[{evil}]}}"#),
        format!(r#"{{"settings":{{"hooks":{{"after":[{evil}]}}}}}}"#),
        format!(r#"{{"hooks":{{"before":{{"0":{evil}}}}}}}"#),
        r#"{"hooks":{"before":[{"name":"dump","exec":["/usr/bin/pg_dump"],"timeout":9}]}}"#
            .to_owned(),
    ];
    for caller in &mut callers {
        for shape in &shapes {
            for kind in ["application/merge-patch+json", "application/json"] {
                let raw = Some((kind, shape.clone().into_bytes()));
                let answer = caller.send_raw(Method::PATCH, &path, raw, &[]).await?;
                assert!(
                    (400..500).contains(&answer.status),
                    "{shape}: {}",
                    answer.text
                );
            }
        }
        let mut second = body.clone();
        second["name"] = json!("second");
        let refused = caller
            .post("/api/v1/policies", &second)
            .await?
            .expect(403)?;
        assert!(["forbidden", "step_up_required"].contains(&refused.code().as_str()));
    }

    assert_eq!(admin.get(&path).await?.expect(200)?.json, before);
    Ok(())
}

#[tokio::test]
async fn somebody_elses_session_is_not_there() -> Fallible {
    let (server, admin) = Server::with_admin().await?;
    let mut viewer = user(&server, admin.clone(), "viewer").await?;
    let listed = viewer.get("/api/v1/auth/sessions").await?.expect(200)?;
    let path = format!("/api/v1/auth/sessions/{}", listed.string("/items/0/id"));

    admin.clone().delete(&path).await?.expect(404)?;

    viewer.get("/api/v1/users/me").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn the_last_administrator_stays() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let me = admin.get("/api/v1/users/me").await?.expect(200)?;
    assert_eq!(me.string("/email"), ADA);
    let path = format!("/api/v1/users/{}", me.string("/id"));

    for change in [json!({"role": "viewer"}), json!({"enabled": false})] {
        let refused = admin.patch(&path, &change).await?;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (409, "conflict"),
            "{change}"
        );
    }
    admin.delete(&path).await?.expect(409)?;
    admin.get("/api/v1/users/me").await?.expect(200)?;
    Ok(())
}

/// A client of a new user with this role.
pub(super) async fn user(server: &Server, mut admin: Client, role: &str) -> Fallible<Client> {
    let email = format!("{role}@example.org");
    let body = json!({"email": email, "password": PASSWORD, "role": role});
    admin.create("/api/v1/users", &body).await?;
    let mut client = server.client();
    client.log_in(&email, PASSWORD).await?;
    Ok(client)
}
