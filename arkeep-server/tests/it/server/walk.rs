//! A11: every route, by everybody.

use arkeep_server::http::access::{Needs, Rule};
use reqwest::Method;
use serde_json::json;

use super::access::user;
use super::client::{Answer, Client};
use super::tokens::program;
use super::{ADA, Fallible, PASSWORD, Server};

/// Who walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    Person(u8),
    /// The token of an administrator with one scope.
    Program(&'static str),
    /// A token with every scope, of a user of this rank.
    CutToOwner(u8),
}

const VIEWER: u8 = 1;
const OPERATOR: u8 = 2;
const ADMIN: u8 = 3;

/// What the contract grants. The table itself is pinned by `the_table_of_roles_is_this_one`.
fn may(who: Who, needs: Needs) -> bool {
    let rank = needs.role().map_or(0, |role| 1 + role as u8);
    let scope = needs.scope().map(|scope| scope.to_string());
    match who {
        _ if needs == Needs::Nothing => true,
        Who::Anonymous => false,
        Who::Person(own) => own >= rank,
        Who::CutToOwner(own) => scope.is_some() && own >= rank,
        Who::Program(own) => {
            scope.is_some_and(|scope| own == "admin" || scope == "read" || scope == own)
        }
    }
}

/// A11, A13: whoever may not is told so, before anything else is looked at; whoever may is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_whom_the_table_says() -> Fallible {
    let (server, admin) = Server::with_admin().await?;
    let mut walkers = everybody(&server, admin).await?;

    for rule in &server.rules {
        // They judge for themselves what they are shown; tests of their own say how.
        if rule.needs == Needs::Nothing {
            continue;
        }
        for (who, client) in &mut walkers {
            let answer = knock(client, rule).await?;
            let got = (answer.status, answer.code());
            let line = format!("{} {} by {who:?}: {}", rule.method, rule.path, answer.text);
            match (may(*who, rule.needs), *who) {
                (true, _) => assert!(![401, 403, 500, 503].contains(&got.0), "{line}"),
                (false, Who::Anonymous) => {
                    assert_eq!(got, (401, "unauthorized".to_owned()), "{line}");
                }
                (false, _) => assert_eq!(got, (403, "forbidden".to_owned()), "{line}"),
            }
            if rule.path.ends_with("/logout-all") && answer.status == 204 {
                let Who::Person(rank) = *who else { continue };
                client.log_in(&email(rank), PASSWORD).await?;
            }
        }
    }
    Ok(())
}

/// A11: what is somebody else's is not there, whatever the caller's role.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_not_there() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = json!({"email": "eve@example.org", "password": PASSWORD, "role": "viewer"});
    admin.create("/api/v1/users", &body).await?;
    let mut eve = server.client();
    eve.log_in("eve@example.org", PASSWORD).await?;
    let mut token = program(&mut eve, &["read"]).await?;
    let sessions = eve.get("/api/v1/auth/sessions").await?.expect(200)?;
    let tokens = eve.get("/api/v1/auth/tokens").await?.expect(200)?;
    let hers = [
        format!("/api/v1/auth/sessions/{}", sessions.string("/items/0/id")),
        format!("/api/v1/auth/tokens/{}", tokens.string("/items/0/id")),
    ];

    for (who, mut client) in everybody(&server, admin).await? {
        for path in &hers {
            let answer = client.delete(path).await?;
            let status = match who {
                Who::Anonymous => 401,
                Who::Person(_) => 404,
                Who::Program(_) | Who::CutToOwner(_) => 403,
            };
            assert_eq!(answer.status, status, "{path} by {who:?}: {}", answer.text);
        }
        if let Who::Person(_) = who {
            for list in ["sessions", "tokens"] {
                let seen = client.get(&format!("/api/v1/auth/{list}")).await?.text;
                assert!(
                    !hers.iter().any(|path| seen.contains(&path[22..])),
                    "{seen}"
                );
            }
        }
    }

    eve.get("/api/v1/users/me").await?.expect(200)?;
    token.get("/api/v1/users/me").await?.expect(200)?;
    Ok(())
}

/// Knocks with an id of nothing and an empty body.
async fn knock(client: &mut Client, rule: &Rule) -> Fallible<Answer> {
    let path = rule
        .path
        .replace("{id}", "0190a0b0-0000-7000-8000-000000000000");
    let body = json!({});
    let body = Some(&body).filter(|_| rule.method != Method::GET);
    client.send(rule.method.clone(), &path, body, &[]).await
}

async fn everybody(server: &Server, mut admin: Client) -> Fallible<Vec<(Who, Client)>> {
    let mut viewer = user(server, admin.clone(), "viewer").await?;
    let mut operator = user(server, admin.clone(), "operator").await?;
    let mut all = vec![(Who::Anonymous, server.client())];
    for scope in SCOPES {
        let client = program(&mut admin, &[scope]).await?;
        all.push((Who::Program(scope), client));
    }
    all.push((
        Who::CutToOwner(VIEWER),
        program(&mut viewer, &SCOPES).await?,
    ));
    let cut = program(&mut operator, &SCOPES).await?;
    all.push((Who::CutToOwner(OPERATOR), cut));
    for (rank, client) in [(VIEWER, viewer), (OPERATOR, operator), (ADMIN, admin)] {
        all.push((Who::Person(rank), client));
    }
    Ok(all)
}

fn email(rank: u8) -> String {
    match rank {
        VIEWER => "viewer@example.org".to_owned(),
        OPERATOR => "operator@example.org".to_owned(),
        _ => ADA.to_owned(),
    }
}

const SCOPES: [&str; 5] = ["read", "run", "restore", "policies", "admin"];
