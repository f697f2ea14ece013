//! Which crate may lean on which: the arrows of ARCHITECTURE.md, read from cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use cargo_metadata::{DependencyKind, MetadataCommand};

type Names = BTreeSet<String>;

fn names(of: &[&str]) -> Names {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// What each crate may use of this workspace.
fn allowed() -> BTreeMap<&'static str, Names> {
    BTreeMap::from([
        ("arkeep-core", names(&[])),
        ("arkeep-vault", names(&[])),
        ("arkeep-hooks", names(&[])),
        ("arkeep-auth", names(&["arkeep-core"])),
        ("arkeep-transport", names(&["arkeep-core"])),
        (
            "arkeep-agent",
            names(&[
                "arkeep-core",
                "arkeep-hooks",
                "arkeep-transport",
                "arkeep-vault",
            ]),
        ),
        (
            "arkeep-server",
            names(&[
                "arkeep-auth",
                "arkeep-core",
                "arkeep-hooks",
                "arkeep-transport",
                "arkeep-vault",
            ]),
        ),
        (
            "arkeep-examples",
            names(&[
                "arkeep-agent",
                "arkeep-auth",
                "arkeep-core",
                "arkeep-hooks",
                "arkeep-server",
                "arkeep-transport",
                "arkeep-vault",
            ]),
        ),
    ])
}

#[test]
fn no_crate_leans_where_it_must_not() -> Result<(), Box<dyn Error>> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let allowed = allowed();

    let members: Names = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    assert_eq!(
        members,
        allowed
            .keys()
            .map(|name| (*name).to_owned())
            .collect::<Names>()
    );

    for package in metadata.workspace_packages() {
        let may = &allowed[package.name.as_str()];
        for dependency in &package.dependencies {
            let itself = dependency.name == package.name.as_str();
            let ours = dependency.name.starts_with("arkeep-");
            // A crate may switch on its own `testing` feature for its own tests.
            let own_tests = itself && dependency.kind == DependencyKind::Development;
            assert!(
                !ours || own_tests || may.contains(&dependency.name),
                "{} must not use {}",
                package.name,
                dependency.name
            );
        }
    }
    Ok(())
}

/// The normal dependencies of a crate with its default features, itself included.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo knows the tree, and it is a program"
)]
fn tree(of: &str) -> Result<Names, Box<dyn Error>> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args([
            "--format",
            "{p}",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--package",
            of,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    Ok(text.lines().filter_map(name_and_version).collect())
}

fn has(tree: &Names, name: &str) -> bool {
    tree.iter()
        .any(|package| package.split(' ').next() == Some(name))
}

#[test]
fn trees_stay_small_and_free_of_what_they_must_not_have() -> Result<(), Box<dyn Error>> {
    let rules: [(&str, usize, &[&str]); 6] = [
        ("arkeep-core", 30, &["tokio", "sqlx", "axum", "tonic"]),
        ("arkeep-vault", 40, &["tokio", "sqlx", "axum", "tonic"]),
        ("arkeep-hooks", 45, &["tokio", "sqlx", "axum", "tonic"]),
        ("arkeep-auth", 70, &["sqlx", "tonic", "axum"]),
        ("arkeep-transport", usize::MAX, &["sqlx", "axum"]),
        (
            "arkeep-agent",
            usize::MAX,
            &["arkeep-auth", "arkeep-server", "sqlx", "axum"],
        ),
    ];
    for (package, most, forbidden) in rules {
        let tree = tree(package)?;
        assert!(
            has(&tree, package),
            "{package} is missing from its own tree: {tree:?}"
        );
        assert!(
            tree.len() <= most,
            "{package} has {} crates, {most} allowed",
            tree.len()
        );
        for name in forbidden {
            assert!(!has(&tree, name), "{package} must not have {name}");
        }
    }
    Ok(())
}

#[test]
fn one_tls_provider_and_one_date_library() -> Result<(), Box<dyn Error>> {
    for package in ["arkeep-server", "arkeep-agent", "arkeep-examples"] {
        let tree = tree(package)?;
        for name in ["ring", "openssl", "native-tls", "chrono", "rsa"] {
            assert!(!has(&tree, name), "{package} must not have {name}");
        }
    }
    Ok(())
}
