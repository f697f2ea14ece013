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
            Needs::Role(role) => role.to_string(),
            Needs::FreshRole(role) => format!("{role}, fresh"),
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
    POST   /api/v1/auth/logout-all                viewer
    POST   /api/v1/auth/step-up                   viewer
    GET    /api/v1/auth/sessions                  viewer
    DELETE /api/v1/auth/sessions/{id}             viewer
    GET    /api/v1/users/me                       viewer
    PATCH  /api/v1/users/me                       viewer
    GET    /api/v1/users                          admin
    POST   /api/v1/users                          admin
    GET    /api/v1/users/{id}                     admin
    PATCH  /api/v1/users/{id}                     admin
    DELETE /api/v1/users/{id}                     admin
    POST   /api/v1/users/{id}/revoke-sessions     admin
    GET    /api/v1/agents                         viewer
    POST   /api/v1/agents                         admin
    GET    /api/v1/agents/{id}                    viewer
    PATCH  /api/v1/agents/{id}                    admin
    DELETE /api/v1/agents/{id}                    admin
    POST   /api/v1/agents/{id}/join-token         admin, fresh
    POST   /api/v1/agents/{id}/revoke             admin, fresh
    POST   /api/v1/agents/{id}/approve            admin, fresh
    GET    /api/v1/destinations                   viewer
    POST   /api/v1/destinations                   admin
    GET    /api/v1/destinations/{id}              viewer
    PATCH  /api/v1/destinations/{id}              admin
    DELETE /api/v1/destinations/{id}              admin
    POST   /api/v1/destinations/{id}/test         operator
    GET    /api/v1/policies                       viewer
    POST   /api/v1/policies                       operator
    GET    /api/v1/policies/{id}                  viewer
    PATCH  /api/v1/policies/{id}                  operator
    DELETE /api/v1/policies/{id}                  operator
    POST   /api/v1/policies/{id}/run              operator
    POST   /api/v1/policies/{id}/verify           operator
    GET    /api/v1/jobs                           viewer
    GET    /api/v1/jobs/{id}                      viewer
    POST   /api/v1/jobs/{id}/cancel               operator
    GET    /api/v1/jobs/{id}/log                  viewer
    GET    /api/v1/snapshots                      viewer
    GET    /api/v1/snapshots/{id}                 viewer
    POST   /api/v1/snapshots/{id}/restore         operator
    "#);
    Ok(())
}

/// A11
#[tokio::test(flavor = "multi_thread")]
async fn nobody_does_what_their_role_does_not_include() -> Fallible {
    let (server, admin) = Server::with_admin().await?;
    let viewer = user(&server, admin.clone(), "viewer").await?;
    let operator = user(&server, admin.clone(), "operator").await?;
    let callers = [(server.client(), 0), (viewer, 1), (operator, 2), (admin, 3)];

    for rule in &server.rules {
        let needed = match rule.needs {
            Needs::Nothing => continue,
            Needs::Role(role) | Needs::FreshRole(role) => 1 + role as usize,
        };
        let path = rule
            .path
            .replace("{id}", "0190a0b0-0000-7000-8000-000000000000");
        for (caller, rank) in &callers {
            // Whoever may log everyone out is not needed any more afterwards.
            if rule.path.ends_with("/logout-all") && *rank > 0 {
                continue;
            }
            let mut caller = caller.clone();
            let body = json!({});
            let body = Some(&body).filter(|_| rule.method != Method::GET);

            let answer = caller.send(rule.method.clone(), &path, body, &[]).await?;

            let wanted = match *rank {
                0 => Some((401, "unauthorized")),
                rank if rank < needed => Some((403, "forbidden")),
                _ => None,
            };
            let got = (answer.status, answer.code());
            let line = format!("{} {path} by {rank}: {}", rule.method, answer.text);
            match wanted {
                Some((status, code)) => assert_eq!(got, (status, code.to_owned()), "{line}"),
                None => assert!(![401, 403, 500, 503].contains(&got.0), "{line}"),
            }
        }
    }
    Ok(())
}

/// A11, A12
#[tokio::test]
async fn what_takes_a_fresh_login_is_refused_to_an_old_one() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let fresh = server
        .rules
        .iter()
        .filter(|rule| matches!(rule.needs, Needs::FreshRole(_)));

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
async fn user(server: &Server, mut admin: Client, role: &str) -> Fallible<Client> {
    let email = format!("{role}@example.org");
    let body = json!({"email": email, "password": PASSWORD, "role": role});
    admin.create("/api/v1/users", &body).await?;
    let mut client = server.client();
    client.log_in(&email, PASSWORD).await?;
    Ok(client)
}
