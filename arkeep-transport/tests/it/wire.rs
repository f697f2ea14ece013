//! Assignments and reports survive the journey to a disk and back.

use arkeep_core::job::{
    Assignment, BackupWork, DestinationResult, DestinationWork, Fence, ForgetWork, HookResult,
    HookState, JobError, JobReport, Outcome as JobOutcome, ReportBody, RestoreWork, VerifyWork,
    Work,
};
use arkeep_core::policy::{Hook, HookPhase, Hooks, Limits, Retention, Source};
use arkeep_core::repository::{
    Credentials, LocalLocation, Location, RcloneCredentials, RcloneLocation, Repository,
    RestCredentials, RestLocation, S3Credentials, S3Location, SftpCredentials, SftpLocation,
};
use arkeep_core::{DestinationId, ExposeSecret, JobId, PolicyId, SecretString, SystemEntropy};
use arkeep_transport::wire::{
    DecodeError, EncodeError, decode_assignment, decode_report, encode_assignment, encode_report,
};
use proptest::prelude::*;

use crate::stand::{Outcome, noon};

const SECRET: &str = "canary-7f3a";

fn secret() -> SecretString {
    SecretString::from(SECRET)
}

fn text() -> String {
    "ä text".to_owned()
}

/// Each place with each kind of key to it.
fn repositories() -> Result<Vec<Repository>, Box<dyn std::error::Error>> {
    let local = Location::Local(LocalLocation {
        path: text(),
        must_be_mounted: true,
    });
    let rest = Location::Rest(RestLocation { url: text() });
    let s3 = |prefix: Option<String>| {
        Location::S3(S3Location {
            endpoint: text(),
            bucket: text(),
            region: prefix.clone(),
            prefix,
            path_style: true,
        })
    };
    let sftp = |port| {
        Location::Sftp(SftpLocation {
            host: text(),
            port,
            user: text(),
            path: text(),
            known_hosts: text(),
        })
    };
    let rclone = Location::Rclone(RcloneLocation {
        remote: text(),
        path: text(),
    });
    let s3_key = |session_token| {
        Some(Credentials::S3(S3Credentials {
            access_key_id: text(),
            secret_access_key: secret(),
            session_token,
        }))
    };
    let with_password = Some(Credentials::Rest(RestCredentials {
        username: text(),
        password: secret(),
    }));
    let with_key = Some(Credentials::Sftp(SftpCredentials::PrivateKey(secret())));
    let with_login = Some(Credentials::Sftp(SftpCredentials::Password(secret())));
    let with_section = Some(Credentials::Rclone(RcloneCredentials { config: secret() }));
    let all = [
        (local, None),
        (rest, with_password),
        (s3(None), s3_key(None)),
        (s3(Some(text())), s3_key(Some(secret()))),
        (sftp(None), with_key),
        (sftp(Some(2222)), with_login),
        (rclone, with_section),
    ];
    let path: arkeep_core::repository::RelativePath = "a/b".parse()?;
    Ok(all
        .into_iter()
        .map(|(location, credentials)| Repository {
            location,
            path: path.clone(),
            credentials,
            password: secret(),
        })
        .collect())
}

fn destinations() -> Result<Vec<DestinationWork>, Box<dyn std::error::Error>> {
    let all = repositories()?
        .into_iter()
        .map(|repository| DestinationWork {
            destination: DestinationId::mint(noon(), &SystemEntropy),
            repository,
        });
    Ok(all.collect())
}

/// Each kind of work, with every field in use and with none.
fn works() -> Result<Vec<Work>, Box<dyn std::error::Error>> {
    let hook = |exec: Option<Vec<String>>, shell| Hook {
        name: text(),
        exec,
        shell,
        timeout: 86_400,
        signature: Some(text()),
    };
    let hooks = Hooks {
        before: vec![hook(Some(vec![]), None), hook(Some(vec![text()]), None)],
        after: vec![hook(None, Some(text()))],
        on_failure: vec![hook(None, None)],
    };
    let limits = Limits {
        upload_kib: Some(0),
        download_kib: Some(u32::MAX),
        cpus: Some(1),
        io_nice: true,
    };
    let backup = BackupWork {
        destinations: destinations()?,
        sources: vec![Source::Path(text()), Source::DockerVolume(text())],
        excludes: vec![text()],
        exclude_larger_than: Some(u64::MAX),
        one_file_system: true,
        tags: vec![text()],
        hooks,
        limits: limits.clone(),
    };
    let bare = BackupWork {
        destinations: vec![],
        sources: vec![],
        excludes: vec![],
        exclude_larger_than: None,
        one_file_system: false,
        tags: vec![],
        hooks: Hooks::default(),
        limits: Limits::default(),
    };
    let place = destinations()?.pop().ok_or("no place")?;
    let restore = RestoreWork {
        destination: place.clone(),
        snapshot: "0123456789abcdef".parse()?,
        target: text(),
        include: vec![text()],
        overwrite: true,
        limits,
    };
    let forget = |retention| ForgetWork {
        destinations: vec![],
        retention,
        plan_only: true,
    };
    let full = Retention {
        keep_last: Some(1),
        hourly: Some(2),
        daily: Some(3),
        weekly: Some(4),
        monthly: Some(5),
        yearly: Some(6),
        within: Some(7),
    };
    Ok(vec![
        Work::Backup(Box::new(backup)),
        Work::Backup(Box::new(bare)),
        Work::Restore(Box::new(restore)),
        Work::Verify(Box::new(VerifyWork {
            destinations: destinations()?,
            read_data_percent: 100,
        })),
        Work::Forget(Box::new(forget(full))),
        Work::Forget(Box::new(forget(Retention::default()))),
        Work::Test(Box::new(place)),
    ])
}

fn assignments() -> Result<Vec<Assignment>, Box<dyn std::error::Error>> {
    let all = works()?
        .into_iter()
        .enumerate()
        .map(|(n, work)| Assignment {
            job: JobId::mint(noon(), &SystemEntropy),
            attempt: u32::MAX,
            fence: Fence(u64::MAX),
            policy: (n % 2 == 0).then(|| PolicyId::mint(noon(), &SystemEntropy)),
            deadline: (n % 2 == 0).then(noon),
            work,
        });
    Ok(all.collect())
}

fn secrets_of(repository: &Repository) -> Vec<&SecretString> {
    let mut secrets = vec![&repository.password];
    match &repository.credentials {
        None => {}
        Some(Credentials::Rest(rest)) => secrets.push(&rest.password),
        Some(Credentials::S3(s3)) => {
            secrets.push(&s3.secret_access_key);
            secrets.extend(&s3.session_token);
        }
        Some(Credentials::Sftp(
            SftpCredentials::PrivateKey(secret) | SftpCredentials::Password(secret),
        )) => secrets.push(secret),
        Some(Credentials::Rclone(rclone)) => secrets.push(&rclone.config),
    }
    secrets
}

/// G10
#[test]
fn every_assignment_comes_back_whole() -> Outcome {
    for sent in assignments()? {
        let bytes = encode_assignment(&sent)?;
        let got = decode_assignment(bytes.expose_secret())?;

        // `Debug` shows every field but the secrets, which are looked at below.
        assert_eq!(format!("{got:?}"), format!("{sent:?}"));
        let again = encode_assignment(&got)?;
        assert_eq!(again.expose_secret(), bytes.expose_secret());
    }
    Ok(())
}

/// G10
#[test]
fn every_secret_comes_back() -> Outcome {
    for repository in repositories()? {
        let work = Work::Test(Box::new(DestinationWork {
            destination: DestinationId::mint(noon(), &SystemEntropy),
            repository: repository.clone(),
        }));
        let mut assignment = assignments()?.pop().ok_or("no assignment")?;
        assignment.work = work;

        let bytes = encode_assignment(&assignment)?;
        let Work::Test(got) = decode_assignment(bytes.expose_secret())?.work else {
            return Err("another kind of work".into());
        };

        let count = secrets_of(&repository).len();
        let secrets = secrets_of(&got.repository);
        assert_eq!(secrets.len(), count);
        assert!(secrets.iter().all(|found| found.expose_secret() == SECRET));
    }
    Ok(())
}

/// V8
#[test]
fn no_secret_is_printed() -> Outcome {
    for assignment in assignments()? {
        let bytes = encode_assignment(&assignment)?;

        assert!(!format!("{assignment:?} {bytes:?}").contains(SECRET));
    }
    Ok(())
}

/// G10
#[test]
fn every_report_comes_back_whole() -> Outcome {
    let outcomes = [
        JobOutcome::Succeeded,
        JobOutcome::Partial,
        JobOutcome::Failed,
        JobOutcome::Cancelled,
    ];
    let states = [
        HookState::Succeeded,
        HookState::Failed,
        HookState::TimedOut,
        HookState::Refused,
        HookState::Cancelled,
    ];
    let phases = [HookPhase::Before, HookPhase::After, HookPhase::OnFailure];
    let error = JobError {
        code: "wrong_password".to_owned(),
        detail: text(),
    };
    let result = |(n, state): (u64, JobOutcome)| -> Result<_, Box<dyn std::error::Error>> {
        Ok(DestinationResult {
            destination_id: DestinationId::mint(noon(), &SystemEntropy),
            state,
            snapshot_id: Some("01234567".parse()?).filter(|_| n % 2 == 0),
            bytes_processed: n,
            bytes_added: n + 1,
            files_new: n + 2,
            files_changed: n + 3,
            files_unmodified: n + 4,
            started_at: noon(),
            ended_at: noon(),
            error: Some(error.clone()).filter(|_| n % 2 == 1),
        })
    };
    let results: Vec<_> = (0..).zip(outcomes).map(result).collect::<Result<_, _>>()?;
    let hooks: Vec<_> = states
        .into_iter()
        .zip(phases.into_iter().cycle())
        .map(|(state, phase)| HookResult {
            name: text(),
            phase,
            state,
            exit_code: Some(-1).filter(|_| state == HookState::Failed),
            output: text(),
            started_at: noon(),
            ended_at: noon(),
        })
        .collect();
    let finished = outcomes.map(|outcome| ReportBody::Finished {
        outcome,
        error: Some(error.clone()),
        results: results.clone(),
        hooks: hooks.clone(),
    });

    for body in std::iter::once(ReportBody::Started).chain(finished) {
        let report = JobReport {
            job: JobId::mint(noon(), &SystemEntropy),
            attempt: 2,
            fence: Fence(3),
            sequence: 4,
            at: noon(),
            body,
        };

        assert_eq!(decode_report(&encode_report(&report)?)?, report);
    }
    Ok(())
}

/// T9
#[test]
fn what_is_heavier_than_a_message_is_refused_when_it_is_written() -> Outcome {
    let mut assignment = assignments()?.swap_remove(1);
    let Work::Backup(backup) = &mut assignment.work else {
        return Err("no backup".into());
    };
    backup.excludes = vec!["x".repeat(4 * 1024 * 1024)];

    let refused = encode_assignment(&assignment);

    assert!(
        matches!(refused, Err(EncodeError::TooLarge(_))),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn a_message_of_another_kind_is_refused() -> Outcome {
    let assignment = assignments()?.pop().ok_or("no assignment")?;
    let bytes = encode_assignment(&assignment)?;

    assert!(decode_report(bytes.expose_secret()).is_err());
    assert!(matches!(
        decode_assignment(&[]),
        Err(DecodeError::Field("job"))
    ));
    assert!(matches!(
        decode_assignment(&[0xff]),
        Err(DecodeError::Malformed)
    ));
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_assignment(&bytes);
        let _ = decode_report(&bytes);
    }

    #[test]
    fn no_altered_byte_makes_it_panic(at: prop::sample::Index, byte: u8) {
        let assignment = assignments().ok().and_then(|mut all| all.pop());
        let bytes = assignment.and_then(|assignment| encode_assignment(&assignment).ok());
        let mut bytes = bytes.map(|bytes| bytes.expose_secret().to_vec()).unwrap_or_default();
        let index = at.index(bytes.len());
        bytes[index] = byte;

        let _ = decode_assignment(&bytes);
    }
}
