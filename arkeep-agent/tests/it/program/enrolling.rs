use std::fs;

use crate::bench::TestResult;

use super::server::{Machine, Server, mode, said};

/// T1: the key is made here, and is its owner's alone.
#[tokio::test]
async fn leaves_an_identity_that_nobody_else_can_read() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;

    assert_eq!(mode(&machine.state()), 0o700);
    assert_eq!(mode(&machine.state().join("identity")), 0o700);
    for file in ["identity.pem", "trust.pem", "server"] {
        assert_eq!(mode(&machine.state().join("identity").join(file)), 0o600);
    }
    Ok(())
}

/// T2
#[tokio::test]
async fn works_once_with_one_token() -> TestResult {
    let server = Server::start().await?;
    let token = server.token().await?;
    let (first, second) = (Machine::new("")?, Machine::new("")?);

    assert!(first.enroll(&token).await?.status.success());
    let refused = second.enroll(&token).await?;

    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("was used before"),
        "{}",
        said(&refused)
    );
    assert!(!second.state().join("identity").exists());
    Ok(())
}

/// T2: a token of another server is not shown to this one.
#[tokio::test]
async fn is_refused_where_the_fingerprint_is_another() -> TestResult {
    let (server, other) = (Server::start().await?, Server::start().await?);
    let token = other.token().await?;
    other.go_away().await;
    let mut impostor = Server::start().await?;
    impostor.go_away().await;
    impostor.address.clone_from(&other.address);
    impostor.come_back().await?;
    drop(server);

    let machine = Machine::new("")?;
    let refused = machine.enroll(&token).await?;

    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("another CA"), "{}", said(&refused));
    other_still_takes(&other, &impostor, &token).await
}

async fn other_still_takes(other: &Server, impostor: &Server, token: &str) -> TestResult {
    impostor.go_away().await;
    other.come_back().await?;
    assert!(Machine::new("")?.enroll(token).await?.status.success());
    Ok(())
}

#[tokio::test]
async fn says_what_is_wrong_with_a_token_and_never_shows_it() -> TestResult {
    let machine = Machine::new("")?;

    let refused = machine.enroll("akj1.hunter2.hunter3").await?;

    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("join token"), "{}", said(&refused));
    assert!(!said(&refused).contains("hunter"), "{}", said(&refused));
    Ok(())
}

#[tokio::test]
async fn takes_the_token_from_a_file_too() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::new("")?;
    let file = machine.path("token");
    fs::write(&file, format!("{}\n", server.token().await?))?;

    let output = machine
        .command(
            ["enroll", "--token-file"]
                .map(std::ffi::OsString::from)
                .into_iter()
                .chain([file.into()]),
        )
        .output()
        .await?;

    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}
