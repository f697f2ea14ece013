use std::error::Error;
use std::fs;
use std::process::{Output, Stdio};

use arkeep_core::job::{Assignment, HookState, Outcome, Work};
use arkeep_core::policy::{Hook, HookPhase, Hooks};
use tokio::io::AsyncWriteExt;

use crate::bench::{TestResult, parts, with_hooks};

use super::server::{Machine, Server, said};

/// `arkeep-agent hook …` with this on its standard input.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]
async fn hook(arguments: &[&str], input: &str) -> Result<Output, Box<dyn Error>> {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_arkeep-agent"))
        .arg("hook")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("it was piped")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    Ok(child.wait_with_output().await?)
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// H11: needs neither configuration nor state, and answers each line.
#[tokio::test]
async fn check_answers_each_line() -> TestResult {
    let input = [
        r#"{"expect":"accept","shell":"pg_dump db | gzip > /var/backups/db.gz"}"#,
        r#"{"shell":"echo $(id)"}"#,
        r#"{"name":"x","exec":["/usr/bin/pg_dump","-Fc"]}"#,
        r#"{"exec":["pg_dump"]}"#,
        r#"{"exec":["/bin/true"],"shell":"true"}"#,
        r#"{"shell":"true","shell":"false"}"#,
        "not json",
        "",
    ];

    let output = hook(&["check"], &input.join("\n")).await?;

    assert_eq!(output.status.code(), Some(1));
    let verdicts = lines(&output);
    assert_eq!(verdicts.len(), 7);
    assert_eq!(verdicts[0]["verdict"], "accept");
    assert!(
        verdicts[0]["canonical"]
            .as_str()
            .unwrap()
            .contains("pg_dump db | gzip")
    );
    assert_eq!(verdicts[1]["verdict"], "reject");
    assert_eq!(verdicts[1]["span"][0], 5);
    assert!(!verdicts[1]["hint"].as_str().unwrap().is_empty());
    assert_eq!(verdicts[2]["canonical"][1], "-Fc");
    let rules: Vec<_> = verdicts[3..]
        .iter()
        .map(|verdict| verdict["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["program", "form", "json", "json"]);

    let accepted = hook(&["check"], input[0]).await?;
    assert_eq!(accepted.status.code(), Some(0));
    Ok(())
}

/// H1, H2: the hooks of a whole policy in one line, and every one that is refused by its place.
#[tokio::test]
async fn check_names_every_bad_hook_of_a_policy() -> TestResult {
    let fine = r#"{"before":[{"name":"a","shell":"id>/x"},{"name":"b","exec":["/bin/b","c"]}]}"#;
    let bad = r#"{"before":[{"name":"a","shell":"ls *"},{"name":"b","shell":"id"}],
                  "after":[{"name":"c","exec":["c"]}],
                  "on_failure":[{"name":"d","shell":"echo `id`"}]}"#;
    let input = [
        fine,
        &bad.replace('\n', " "),
        r#"{"after":[],"shell":"id"}"#,
        r#"{"after":[],"during":[]}"#,
        r#"{"after":[{"name":"a","shell":"id","timout":1}]}"#,
        "{}",
    ];

    let output = hook(&["check"], &input.join("\n")).await?;

    assert_eq!(output.status.code(), Some(1));
    let verdicts = lines(&output);
    let canonical = serde_json::json!({
        "before": ["id 1> /x", ["/bin/b", "c"]], "after": [], "on_failure": [],
    });
    assert_eq!(verdicts[0]["canonical"], canonical);
    let errors = verdicts[1]["errors"].as_array().ok_or("a list")?;
    let told: Vec<_> = errors
        .iter()
        .map(|error| serde_json::json!([error["field"], error["rule"], error["span"]]))
        .collect();
    let expected = serde_json::json!([
        ["hooks.before[0].shell", "glob", [3, 4]],
        ["hooks.after[0]", "program", null],
        ["hooks.on_failure[0].shell", "substitution", [5, 6]],
    ]);
    assert_eq!(serde_json::json!(told), expected);
    assert_eq!(verdicts[1]["rule"], "glob");
    assert_eq!(verdicts[1]["hint"], errors[0]["hint"]);
    assert_eq!(verdicts[2]["verdict"], "accept");
    let rules: Vec<_> = verdicts[3..]
        .iter()
        .map(|verdict| verdict["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["json", "json", "form"]);
    assert!(verdicts[3].get("errors").is_none());
    Ok(())
}

#[derive(serde::Deserialize)]
struct Vector {
    expect: String,
    shell: String,
    rule: Option<String>,
}

/// H1, H2, H3, H11: the program judges as every vector is marked, and what it prints as the one
/// spelling of a line is judged the same and printed the same.
#[tokio::test]
async fn check_judges_the_corpus_as_it_is_marked() -> TestResult {
    let corpus = include_str!("../../../../arkeep-hooks/tests/vectors/hooks.jsonl");
    let own = include_str!("../../../../arkeep-hooks/tests/vectors/more-hooks.jsonl");
    let both = format!("{corpus}{own}");

    let output = hook(&["check"], &both).await?;

    assert_eq!(output.status.code(), Some(1));
    let verdicts = lines(&output);
    assert_eq!(verdicts.len(), both.lines().count());
    let mut canonical = Vec::new();
    for (verdict, marked) in verdicts.iter().zip(both.lines()) {
        let marked: Vector = serde_json::from_str(marked)?;
        assert_eq!(verdict["verdict"], marked.expect, "{:?}", marked.shell);
        if let Some(rule) = marked.rule {
            assert_eq!(verdict["rule"], rule, "{:?}", marked.shell);
        }
        if marked.expect == "accept" {
            canonical.push(verdict["canonical"].clone());
        } else {
            assert!(!verdict["hint"].as_str().unwrap().is_empty());
        }
    }
    let again: Vec<_> = canonical
        .iter()
        .map(|shell| serde_json::json!({"shell": shell}).to_string())
        .collect();
    let output = hook(&["check"], &again.join("\n")).await?;
    assert_eq!(output.status.code(), Some(0));
    let printed: Vec<_> = lines(&output)
        .iter()
        .map(|verdict| verdict["canonical"].clone())
        .collect();
    assert_eq!(printed, canonical);
    Ok(())
}

/// H2: programs read the answers, and a person at a terminal sees the place as well.
#[tokio::test]
async fn check_underlines_for_a_person_and_for_nobody_else() -> TestResult {
    let line = r#"{"shell":"pg_dump $(cat name)"}"#;
    let underlined = ["pg_dump $(cat name)", "        ^^"];
    let dir = tempfile::tempdir()?;
    let input = dir.path().join("hooks");
    fs::write(&input, line)?;
    let command = format!(
        "{} hook check < {}",
        env!("CARGO_BIN_EXE_arkeep-agent"),
        input.display()
    );

    let piped = hook(&["check"], line).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a terminal, and the program under test on it"
    )]
    let terminal = tokio::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .await?;

    assert!(piped.stderr.is_empty(), "{}", said(&piped));
    let seen = String::from_utf8(terminal.stdout)?;
    let seen: Vec<_> = seen.lines().map(str::trim_end).collect();
    assert!(seen.windows(2).any(|two| two == underlined), "{seen:?}");
    assert!(seen[0].starts_with('{'), "{seen:?}");
    Ok(())
}

/// H2
#[tokio::test]
async fn sign_underlines_what_cannot_be_signed() -> TestResult {
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("key").to_string_lossy().into_owned();
    hook(&["keygen", "--key-file", &key], "").await?;
    let id = "0190a0b0-0000-7000-8000-000000000000";
    let list = r#"{"after":[{"name":"a","shell":"true"},{"name":"b","shell":"ls *.sql"}],
                   "on_failure":[{"name":"c","exec":["c"]}]}"#;

    let arguments = ["sign", "--key-file", &key, "--agent", id, "--policy", id];
    let output = hook(&arguments, list).await?;

    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = said(&output);
    assert!(
        said.contains("hooks.after[1]: hook refused (glob)"),
        "{said}"
    );
    assert!(said.contains("ls *.sql\n   ^"), "{said}");
    assert!(
        said.contains("hooks.on_failure[0]: hook refused (program)"),
        "{said}"
    );
    Ok(())
}

/// H7: the layers that are there by name, and each that is missing on a line of its own.
#[tokio::test]
async fn the_doctor_shows_what_the_sandbox_can_do() -> TestResult {
    let machine = Machine::new("[hooks]\npolicy = 'any'\n")?;

    let output = machine.command(["doctor"]).output().await?;

    let told = String::from_utf8(output.stdout)?;
    assert!(told.contains("ok   hooks: policy any\n"), "{told}");
    let mut sandbox = told
        .lines()
        .filter_map(|line| line.strip_prefix("ok   sandbox: "));
    let first = sandbox.next().ok_or("a line")?;
    let (word, layers) = first.split_once(": ").ok_or("a list")?;
    let rest: Vec<_> = sandbox.collect();
    assert_eq!(word == "complete", rest.is_empty(), "{told}");
    assert!(layers.contains("system call filter"), "{told}");
    assert!(
        rest.iter()
            .all(|line| line.contains("not on this machine: "))
    );
    Ok(())
}

/// A line beyond every bound is answered like any other, and does not hide the next.
#[tokio::test]
async fn check_answers_a_line_of_any_length() -> TestResult {
    let long = format!(
        "{{\"shell\":\"{}\"}}\n{{\"shell\":\"true\"}}\n",
        "a".repeat(3 << 20)
    );

    let output = hook(&["check"], &long).await?;

    let verdicts = lines(&output);
    assert_eq!(verdicts.len(), 2);
    assert_eq!(verdicts[0]["verdict"], "reject");
    assert_eq!(verdicts[1]["verdict"], "accept");
    Ok(())
}

fn hooks_of(assignment: &Assignment) -> &Hooks {
    match &assignment.work {
        Work::Backup(work) => &work.hooks,
        other => panic!("not a backup: {other:?}"),
    }
}

/// Signs the hooks of an assignment as a person does, at a desk.
async fn signed(
    machine: &Machine,
    server: &Server,
    assignment: &Assignment,
) -> Result<Hooks, Box<dyn Error>> {
    let agent = server.heard.connected().await.agent().to_string();
    let policy = assignment.policy.ok_or("a policy")?.to_string();
    let key = machine.path("hook.key");
    let arguments = ["sign", "--agent", &agent, "--policy", &policy, "--key-file"];
    let key = key.to_string_lossy();
    let arguments: Vec<&str> = arguments.into_iter().chain([&*key]).collect();
    let unsigned = serde_json::to_string(hooks_of(assignment))?;
    let output = hook(&arguments, &unsigned).await?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn with(mut assignment: Assignment, hooks: Hooks) -> Assignment {
    assignment.job = crate::bench::job();
    if let Work::Backup(work) = &mut assignment.work {
        work.hooks = hooks;
    }
    assignment
}

/// H6: the server can run what was signed, all of it, and nothing else.
#[tokio::test]
async fn signed_hooks_run_and_others_do_not() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let key_file = machine.path("hook.key");
    let made = hook(&["keygen", "--key-file", &key_file.to_string_lossy()], "").await?;
    let public = String::from_utf8(made.stdout)?;
    let config = format!(
        "[hooks]\npolicy = 'signed'\ntrusted_keys = ['{}']\n",
        public.trim()
    );
    fs::write(machine.path("agent.toml"), config)?;
    let agent = machine.run()?;
    let hooks = [
        (HookPhase::Before, "echo one"),
        (HookPhase::After, "echo two"),
    ];
    let assignment = with_hooks(&machine.path("repository").to_string_lossy(), &hooks);
    let good = signed(&machine, &server, &assignment).await?;
    let mut dropped = good.clone();
    dropped.after.clear();
    let mut changed = good.clone();
    changed.before[0].exec = Some(["/bin/sh", "-c", "echo three"].map(str::to_owned).to_vec());

    for (hooks, state) in [
        (good, HookState::Succeeded),
        (dropped, HookState::Refused),
        (changed, HookState::Refused),
        (hooks_of(&assignment).clone(), HookState::Refused),
    ] {
        let assignment = with(assignment.clone(), hooks);
        server.heard.assign(&assignment).await;
        let report = server.heard.end_of(assignment.job).await;
        let end = parts(&report);
        assert!(
            end.hooks.iter().all(|hook| hook.state == state),
            "{report:?}"
        );
        assert!(!end.hooks.is_empty());
    }
    agent.end().await?;
    Ok(())
}

fn exec(argv: &[&str]) -> Hook {
    Hook {
        name: argv.join(" "),
        exec: Some(argv.iter().map(|word| (*word).to_owned()).collect()),
        shell: None,
        timeout: 20,
        signature: None,
    }
}

/// H7: not even an allowed hook reads the agent's keys, or changes what its owner decided.
#[tokio::test]
async fn a_hook_does_not_reach_the_agents_own_files() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "[hooks]\npolicy = 'any'\n").await?;
    let agent = machine.run()?;
    server.heard.connected().await;
    let key = machine.state().join("key");
    let pem = machine.state().join("identity/identity.pem");
    let config = machine.path("agent.toml");
    let repository = machine.path("repository");
    assert!(key.exists() && pem.exists());

    for file in [key, pem] {
        let hooks = Hooks {
            before: vec![exec(&["/bin/cat", &file.to_string_lossy()])],
            ..Hooks::default()
        };
        let assignment = with(with_hooks(&repository.to_string_lossy(), &[]), hooks);
        server.heard.assign(&assignment).await;
        let report = server.heard.end_of(assignment.job).await;
        let end = parts(&report);
        assert_eq!(
            (end.outcome, end.code),
            (Outcome::Failed, Some("hook_failed"))
        );
        assert!(!end.hooks[0].output.contains("PRIVATE"), "{report:?}");
    }
    let script = format!("echo policy >> {}", config.display());
    let hooks = Hooks {
        before: vec![exec(&["/bin/sh", "-c", &script])],
        ..Hooks::default()
    };
    let assignment = with(with_hooks(&repository.to_string_lossy(), &[]), hooks);
    server.heard.assign(&assignment).await;
    server.heard.end_of(assignment.job).await;
    assert_eq!(fs::read_to_string(config)?, "[hooks]\npolicy = 'any'\n");
    agent.end().await?;
    Ok(())
}
