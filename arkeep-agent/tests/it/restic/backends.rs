//! Repositories behind real servers.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use arkeep_agent::restic::ResticConfig;
use arkeep_core::SecretString;
use arkeep_core::engine::{BackupEngine, EngineError, RestoreRequest, Silent, SnapshotFilter};
use arkeep_core::policy::Limits;
use arkeep_core::repository::{
    Credentials, Location, RcloneCredentials, RcloneLocation, Repository, RestCredentials,
    RestLocation, S3Credentials, S3Location, SftpCredentials, SftpLocation,
};

use super::bench::{
    Bench, Outcome, PASSWORD, Watch, backup_of, benches, lay_out, noise, restics, running, skip,
    until,
};
use super::servers::{SERVER_PASSWORD, USER, keygen, moto, rclone_serve, sshd, tool};

fn repository(location: Location, credentials: Option<Credentials>) -> Repository {
    Repository {
        location,
        path: "a policy".parse().unwrap(),
        credentials,
        password: SecretString::from(PASSWORD),
    }
}

fn rest(port: u16, password: &str) -> Repository {
    repository(
        Location::Rest(RestLocation {
            url: format!("http://127.0.0.1:{port}/"),
        }),
        Some(Credentials::Rest(RestCredentials {
            username: USER.to_owned(),
            password: SecretString::from(password),
        })),
    )
}

/// Backs up, lists and restores.
async fn prove(bench: &Bench, repository: &Repository, watch: &Watch) -> Outcome {
    let source = bench.tree("source", &[("a", "one")])?;
    let request = backup_of(&[&source]);

    let report = bench.engine.backup(repository, &request, watch).await?;
    let listed = bench
        .engine
        .snapshots(repository, &SnapshotFilter::default(), watch)
        .await?;
    let restore = RestoreRequest {
        snapshot: report.snapshot.clone(),
        target: bench.text("target"),
        include: vec![format!("{source}/a")],
        overwrite: false,
        limits: Limits::default(),
    };
    bench.engine.restore(repository, &restore, watch).await?;

    assert!(report.complete, "{report:?}");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        fs::read_to_string(format!("{}{source}/a", bench.text("target")))?,
        "one"
    );
    assert_eq!(fs::read_dir(bench.path("run"))?.count(), 0);
    Ok(())
}

/// G3, G7
#[tokio::test]
async fn a_rest_server_holds_a_repository() -> Outcome {
    for bench in benches()? {
        let server = rclone_serve("restic", &bench.path("served"), &[]).await?;
        lay_out(&bench.path("served/a policy"))?;
        let watch = Watch::default();

        prove(&bench, &rest(server.port, SERVER_PASSWORD), &watch).await?;

        assert!(!watch.log().contains(SERVER_PASSWORD), "{}", watch.log());
    }
    Ok(())
}

/// G5, G7
#[tokio::test]
async fn a_repository_is_made_on_a_rest_server_that_has_none() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let server = rclone_serve("restic", &bench.path("served"), &[]).await?;
        let there = rest(server.port, SERVER_PASSWORD);

        let before = bench.engine.unlock(&there, &Silent).await;
        bench.engine.init(&there, &Silent).await?;
        let after = bench.engine.unlock(&there, &Silent).await;

        assert!(
            matches!(before, Err(EngineError::RepositoryMissing(_))),
            "{before:?}"
        );
        assert_eq!(after, Ok(()));
    }
    Ok(())
}

/// G3, G5
#[tokio::test]
async fn a_server_that_lets_nobody_in_is_not_without_repository() -> Outcome {
    const WRONG: &str = "wr0ng/pass w%rd";
    for bench in benches()? {
        let server = rclone_serve("restic", &bench.path("served"), &[]).await?;
        let watch = Watch::default();

        let made = bench.engine.init(&rest(server.port, WRONG), &watch).await;

        let Err(EngineError::Failed(text)) = made else {
            panic!("{made:?}");
        };
        assert!(text.contains("401"), "{text}");
        let said = format!("{text}\n{}", watch.log());
        for spelling in [WRONG, "wr0ng%2Fpass%20w%25rd", USER] {
            assert!(!said.contains(spelling), "{said}");
        }
        assert_eq!(fs::read_dir(bench.path("served"))?.count(), 0);
    }
    Ok(())
}

/// G5, G9
#[tokio::test]
async fn a_server_that_never_answers_is_given_up() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |config: &mut ResticConfig| {
            config.deadlines.answer = Duration::from_millis(1_500);
            config.deadlines.grace = Duration::from_millis(300);
        })?;
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let there = rest(silent.local_addr()?.port(), SERVER_PASSWORD);

        let made = bench.engine.init(&there, &Silent).await;

        let Err(EngineError::Failed(text)) = made else {
            panic!("{made:?}");
        };
        assert!(text.contains("is the back-end reachable?"), "{text}");
        assert_eq!(bench.processes(), []);
    }
    Ok(())
}

/// G3, G7
#[tokio::test]
async fn a_directory_behind_ssh_holds_a_repository() -> Outcome {
    for bench in benches()? {
        let (server, key, known_hosts) = sshd(&bench.path("sshd")).await?;
        lay_out(&bench.path("served/a policy"))?;
        let location = SftpLocation {
            host: "127.0.0.1".to_owned(),
            port: Some(server.port),
            user: user()?,
            path: bench.text("served"),
            known_hosts,
        };
        let login = |key: &str| {
            Some(Credentials::Sftp(SftpCredentials::PrivateKey(
                SecretString::from(key),
            )))
        };
        keygen(&bench.path("other"))?;
        let other = fs::read_to_string(bench.path("other"))?;
        let other_host = fs::read_to_string(bench.path("other.pub"))?;
        let stranger = SftpLocation {
            known_hosts: format!("[127.0.0.1]:{} {other_host}", server.port),
            ..location.clone()
        };

        let watch = Watch::default();
        let there = repository(Location::Sftp(location.clone()), login(&key));
        prove(&bench, &there, &watch).await?;
        let missing = Repository {
            path: "nothing".parse()?,
            ..there
        };
        let missing = bench.engine.unlock(&missing, &watch).await;
        let impostor = repository(Location::Sftp(stranger), login(&key));
        let impostor = bench.engine.unlock(&impostor, &watch).await;
        let unknown = repository(Location::Sftp(location), login(&other));
        let unknown = bench.engine.unlock(&unknown, &watch).await;

        assert!(
            matches!(missing, Err(EngineError::RepositoryMissing(_))),
            "{missing:?}"
        );
        assert!(
            matches!(impostor, Err(EngineError::Failed(_))),
            "{impostor:?}"
        );
        assert!(
            matches!(unknown, Err(EngineError::Failed(_))),
            "{unknown:?}"
        );
        assert_eq!(fs::read_dir(bench.path("run"))?.count(), 0);
    }
    Ok(())
}

/// G3, G7
#[tokio::test]
async fn a_password_opens_an_ssh_server_too() -> Outcome {
    for bench in benches()? {
        let host = keygen(&bench.path("host"))?;
        let server = rclone_serve(
            "sftp",
            &bench.path("served"),
            &["--key", &bench.text("host")],
        )
        .await?;
        lay_out(&bench.path("served/below/a policy"))?;
        let location = SftpLocation {
            host: "127.0.0.1".to_owned(),
            port: Some(server.port),
            user: USER.to_owned(),
            path: "/below/".to_owned(),
            known_hosts: format!("[127.0.0.1]:{} {host}", server.port),
        };
        let password = SftpCredentials::Password(SecretString::from(SERVER_PASSWORD));
        let there = repository(Location::Sftp(location), Some(Credentials::Sftp(password)));

        prove(&bench, &there, &Watch::default()).await?;
    }
    Ok(())
}

/// G3, G5, G7
#[tokio::test]
async fn a_bucket_holds_a_repository() -> Outcome {
    let Some(server) = moto().await? else {
        return skip("a_bucket_holds_a_repository", "there is no moto_server");
    };
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let version = bench.engine.probe().await?.version;
        let location = S3Location {
            endpoint: format!("http://127.0.0.1:{}", server.port),
            bucket: format!("bucket-{}", version.replace('.', "-")),
            prefix: Some("deep down".to_owned()),
            region: Some("us-east-1".to_owned()),
            path_style: true,
        };
        let credentials = Credentials::S3(S3Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SecretString::from(SERVER_PASSWORD),
            session_token: Some(SecretString::from("s3ssion")),
        });
        let there = repository(Location::S3(location), Some(credentials));
        let watch = Watch::default();

        let before = bench.engine.unlock(&there, &watch).await;
        bench.engine.init(&there, &watch).await?;
        prove(&bench, &there, &watch).await?;

        assert!(
            matches!(before, Err(EngineError::RepositoryMissing(_))),
            "{before:?}"
        );
        assert!(!watch.log().contains(SERVER_PASSWORD), "{}", watch.log());
    }
    Ok(())
}

/// G3, G7, G9
#[tokio::test]
async fn what_rclone_reaches_holds_a_repository() -> Outcome {
    for bench in benches()? {
        let server = rclone_serve("webdav", &bench.path("served"), &[]).await?;
        // The remote's path tells this rclone from every other on the machine.
        let below = format!("below-{}", server.port);
        lay_out(&bench.path("served").join(&below).join("a policy"))?;
        let obscured = tool("rclone").args(["obscure", SERVER_PASSWORD]).output()?;
        let config = format!(
            "type = webdav\nurl = http://127.0.0.1:{}\nvendor = other\nuser = {USER}\npass = {}",
            server.port,
            String::from_utf8(obscured.stdout)?
        );
        let there = repository(
            Location::Rclone(RcloneLocation {
                remote: "nas".to_owned(),
                path: below.clone(),
            }),
            Some(Credentials::Rclone(RcloneCredentials {
                config: SecretString::from(config),
            })),
        );
        let watch = Watch::default();

        prove(&bench, &there, &watch).await?;
        stop_midway(&bench, &there, &format!("nas:{below}/")).await?;

        assert!(!watch.log().contains(SERVER_PASSWORD), "{}", watch.log());
    }
    Ok(())
}

/// Stops a backup through rclone in both ways, and looks for what is left of it.
async fn stop_midway(bench: &Bench, there: &Repository, remote: &str) -> Outcome {
    let source = bench.tree("large", &[])?;
    fs::write(bench.path("large/a"), noise(4 << 20))?;
    let mut request = backup_of(&[&source]);
    request.limits.upload_kib = Some(512);
    let watch = Watch::default();
    let cancel = async {
        watch.moved().await;
        assert!(!running(remote).is_empty());
        watch.stop();
    };

    let backup = bench.engine.backup(there, &request, &watch);
    let (cancelled, ()) = tokio::join!(backup, cancel);
    let after_cancel = running(remote);
    let watch = Watch::default();
    {
        let backup = bench.engine.backup(there, &request, &watch);
        tokio::select! {
            ended = backup => panic!("{ended:?}"),
            () = watch.moved() => {}
        }
    }

    assert_eq!(cancelled, Err(EngineError::Cancelled));
    assert_eq!(after_cancel, []);
    until("rclone is gone", || running(remote).is_empty()).await;
    Ok(())
}

fn user() -> Result<String, Box<dyn std::error::Error>> {
    let id = tool("id").arg("-un").output()?;
    Ok(String::from_utf8(id.stdout)?.trim().to_owned())
}
