//! Putting files back.
//!
//! restic takes patterns for what to restore, and a name may hold `*`. Each path is escaped, so
//! that it means itself. A path that the snapshot does not have would restore nothing and call
//! that a success; each is looked for first.
//!
//! # What is there already
//!
//! Without [`overwrite`](RestoreRequest::overwrite), restic from 0.17 on leaves every file that is
//! there as it is. Before, it cannot: there the target must not exist or be empty, or the
//! restore is refused.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use arkeep_core::engine::{EngineError, Observer, RestoreReport, RestoreRequest};
use arkeep_core::job::LogLevel;
use arkeep_core::repository::Repository;

use super::ResticEngine;
use super::backup::Gauge;
use super::cage::Target;
use super::call::{Ask, Kind, unless_cancelled};
use super::list::{parent, snapshot_path};
use super::listen::Heard;
use super::message::{Message, Summary};
use super::place::refused;
use super::redact::Redactor;
use super::version::Version;

impl ResticEngine {
    pub(super) async fn put_back(
        &self,
        from: &Repository,
        request: &RestoreRequest,
        observer: &dyn Observer,
    ) -> Result<RestoreReport, EngineError> {
        if !request.target.starts_with('/') {
            return Err(refused("the target is not an absolute path"));
        }
        let include = included(request)?;
        let mut flags = vec![format!("--target={}", request.target)];
        flags.extend(
            include
                .iter()
                .map(|path| format!("--include={}", literal(path))),
        );
        if !request.overwrite {
            let (_, version) = self.program().await?;
            if version >= Version::OVERWRITE {
                flags.push("--overwrite=never".to_owned());
            } else {
                let target = request.target.clone();
                let look = self.look(move || require_empty(Path::new(&target)));
                unless_cancelled(observer, look).await?;
            }
        }
        self.require_included(from, request, &include, observer)
            .await?;

        let target = request.target.clone();
        let hold = self.look(move || match target.as_str() {
            // In place, everything is the target.
            "/" => Ok(None),
            target => Target::open(Path::new(target)).map(Some),
        });
        let target = unless_cancelled(observer, hold).await?;

        let mut summary = Summary::default();
        let mut gauge = Gauge::new(observer);
        let mut last = String::new();
        let mut heed = |heard: Heard<'_>, redactor: &Redactor| match heard {
            Heard::Message(Message::Status(status)) => {
                gauge.show(status, |file| redactor.clean(file))
            }
            Heard::Message(Message::Summary(end)) => {
                summary = *end;
                true
            }
            Heard::Line(line) => {
                observer.line(LogLevel::Info, &redactor.clean(line));
                is_news(&mut last, line)
            }
            _ => false,
        };
        let ask = Ask {
            verb: "restore",
            flags,
            operands: vec![request.snapshot.to_string()],
            limits: Some(&request.limits),
            target,
            kind: Kind::Work,
            ..Ask::default()
        };
        let ended = self.call(from, ask, observer, &mut heed, None).await?;
        ended.ok()?;
        if summary.files_skipped > 0 {
            let skipped = summary.files_skipped;
            observer.line(
                LogLevel::Info,
                &format!("{skipped} files were there and were left as they are"),
            );
        }
        Ok(RestoreReport {
            files: summary.files_restored,
            bytes: summary.bytes_restored,
        })
    }

    async fn require_included(
        &self,
        from: &Repository,
        request: &RestoreRequest,
        include: &[&str],
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        if include.is_empty() {
            return Ok(());
        }
        let paths: Vec<String> = include.iter().map(|&path| path.to_owned()).collect();
        let mut wanted = include.to_vec();
        let mut each = |node: super::list::Node| {
            let above = parent(&node.path);
            wanted.retain(|&path| path != node.path && Some(path) != above);
        };
        self.nodes(from, &request.snapshot, &paths, observer, &mut each)
            .await?;
        match wanted.first() {
            None => Ok(()),
            Some(path) => Err(EngineError::Refused(format!(
                "snapshot {} has no {path}",
                request.snapshot
            ))),
        }
    }
}

/// The paths to put back, none when everything is meant.
fn included(request: &RestoreRequest) -> Result<Vec<&str>, EngineError> {
    let paths = request.include.iter().map(|path| snapshot_path(path));
    let paths: Vec<&str> = paths.collect::<Result<_, _>>()?;
    Ok(match paths.contains(&"/") {
        true => Vec::new(),
        false => paths,
    })
}

/// A pattern that matches this path alone and what is below it.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '\\' | '*' | '?' | '[' | ']') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn require_empty(target: &Path) -> Result<(), EngineError> {
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => {
            return Err(EngineError::Refused(format!(
                "the target cannot be looked at: {error}"
            )));
        }
    };
    match occupied {
        false => Ok(()),
        true => Err(refused(
            "the target is not empty, and this restic cannot leave files that are there: restore \
             into an empty directory, allow overwriting, or install restic 0.17 or later",
        )),
    }
}

/// Whether a line says something new, apart from the time that it begins with.
pub(super) fn is_news(last: &mut String, line: &str) -> bool {
    let said = line
        .strip_prefix('[')
        .and_then(|line| line.split_once(']'))
        .map_or(line, |(_, said)| said);
    let news = said != last;
    said.clone_into(last);
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G2
    #[test]
    fn a_path_is_escaped_to_mean_itself() {
        assert_eq!(literal("/a*/[b]?\\"), "/a\\*/\\[b\\]\\?\\\\");
    }

    #[test]
    fn a_clock_that_ticks_is_no_news() {
        let mut last = String::new();

        assert!(is_news(&mut last, "[0:01] 50.00%  1 / 2 packs"));
        assert!(!is_news(&mut last, "[0:11] 50.00%  1 / 2 packs"));
        assert!(is_news(&mut last, "[0:21] 100.00%  2 / 2 packs"));
    }
}
