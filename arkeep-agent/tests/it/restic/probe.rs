//! Which restic is run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use arkeep_agent::restic::{BinarySource, BundledRestic, ResticConfig, ResticEngine};
use arkeep_core::engine::{BackupEngine, EngineError, EngineInfo};
use sha2::{Digest, Sha256};

use super::bench::{Bench, Outcome, restics};
use super::impostor::{Impostor, impostor};

async fn probe(bench: &Bench, binary: BinarySource) -> Result<EngineInfo, EngineError> {
    let config = ResticConfig::new(binary, bench.path("cache"), bench.path("run"));
    ResticEngine::new(config)?.probe().await
}

/// G1
#[tokio::test]
async fn restic_is_found_where_it_was_configured_and_in_path() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let directories = format!(
            "relative:/nowhere:{}",
            restic.parent().unwrap_or(&restic).display()
        );

        let configured = bench.engine.probe().await?;
        let in_path = probe(&bench, BinarySource::Path(directories.into())).await?;

        assert_eq!(configured.source, "configured");
        assert_eq!(in_path.source, "path");
        assert_eq!(configured.version, in_path.version);
    }
    Ok(())
}

/// G1
#[tokio::test]
async fn what_others_could_have_put_there_is_not_run() -> Outcome {
    let restic = restics().remove(0);
    let bench = Bench::bare(&restic, |_| {})?;
    let copy = bench.path("restic");
    fs::copy(&restic, &copy)?;
    let configured = || BinarySource::Configured(copy.clone());

    for mode in [0o775, 0o757, 0o600] {
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;

        let error = probe(&bench, configured()).await.unwrap_err();

        assert!(
            matches!(error, EngineError::Unusable(_)),
            "{mode:o}: {error}"
        );
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700))?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&copy, Some(65_534), None)?;
        let error = probe(&bench, configured()).await.unwrap_err();
        assert!(
            error.to_string().contains("belongs to another user"),
            "{error}"
        );
        std::os::unix::fs::chown(&copy, Some(0), None)?;
    }
    assert!(probe(&bench, configured()).await.is_ok());
    Ok(())
}

/// G1
#[tokio::test]
async fn a_link_is_followed_to_what_is_checked() -> Outcome {
    let restic = restics().remove(0);
    let bench = Bench::bare(&restic, |_| {})?;
    let (copy, link) = (bench.path("copy"), bench.path("link"));
    fs::copy(&restic, &copy)?;
    symlink(&copy, &link)?;
    let linked = BinarySource::Configured(link);

    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    assert!(probe(&bench, linked.clone()).await.is_ok());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o777))?;
    assert!(probe(&bench, linked).await.is_err());
    Ok(())
}

/// G1
#[tokio::test]
async fn a_restic_that_cannot_be_used_says_what_to_do() -> Outcome {
    let bench = Bench::bare(&restics()[0], |_| {})?;
    let script = bench.path("script");
    fs::write(&script, "#!/bin/sh\necho restic 0.18.0\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;

    for binary in [
        BinarySource::Configured("/nowhere/restic".into()),
        BinarySource::Configured("restic".into()),
        BinarySource::Configured(bench.dir.path().into()),
        BinarySource::Configured("/bin/true".into()),
        BinarySource::Configured("/bin/echo".into()),
        BinarySource::Configured(script),
        BinarySource::Path("/nowhere".into()),
    ] {
        let what = format!("{binary:?}");

        let error = probe(&bench, binary).await.unwrap_err();

        assert_eq!(error.code(), "restic_unusable", "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains("https://restic.net"), "{what}: {text}");
        assert!(
            text.contains("`path` under `[restic]` in agent.toml"),
            "{what}: {text}"
        );
    }
    Ok(())
}

/// G1
#[tokio::test]
async fn a_restic_that_is_too_old_says_so() -> Outcome {
    for (version, usable) in [
        ("0.13.1", false),
        ("0.9.6", false),
        ("0.14.0", true),
        ("2.0.0", true),
    ] {
        let old = impostor(&Impostor {
            version,
            ..Impostor::default()
        })?;
        let bench = Bench::bare(&old, |_| {})?;

        let probed = bench.engine.probe().await;

        match probed {
            Ok(info) => assert_eq!((info.version.as_str(), usable), (version, true)),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains(&format!("restic {version}, which is too old")),
                    "{text}"
                );
                assert!(!usable);
            }
        }
    }
    Ok(())
}

/// G1
#[tokio::test]
async fn a_restic_that_was_exchanged_is_asked_again() -> Outcome {
    let bench = Bench::bare(&restics()[0], |_| {})?;
    let place = bench.path("restic");
    let newer = |version| {
        impostor(&Impostor {
            version,
            ..Impostor::default()
        })
    };
    let config = ResticConfig::new(
        BinarySource::Configured(place.clone()),
        bench.path("cache"),
        bench.path("run"),
    );
    let engine = ResticEngine::new(config)?;
    let mut seen = Vec::new();

    for version in ["0.14.0", "2.0.0"] {
        let draft = bench.path("draft");
        fs::copy(newer(version)?, &draft)?;
        fs::rename(&draft, &place)?;
        seen.push(engine.probe().await?.version);
    }

    assert_eq!(seen, ["0.14.0", "2.0.0"]);
    Ok(())
}

/// G1
#[tokio::test]
async fn a_bundled_restic_is_written_out_and_run() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let bytes: &'static [u8] = Box::leak(fs::read(&restic)?.into_boxed_slice());
        let sha256 = Sha256::digest(bytes).into();
        let bundled = BundledRestic {
            bytes,
            sha256,
            directory: bench.path("state/bin"),
        };

        let info = probe(&bench, BinarySource::Bundled(bundled)).await?;

        assert_eq!(info.source, "bundled");
        assert_eq!(info.version, bench.engine.probe().await?.version);
    }
    Ok(())
}
