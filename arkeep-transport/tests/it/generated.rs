//! The committed code is what the proto says.

use std::error::Error;
use std::path::Path;

use prost_types::FileDescriptorSet;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const FILE: &str = "arkeep.agent.v1.rs";

/// Everything that the proto package declares.
pub(crate) fn descriptors() -> Result<FileDescriptorSet, Box<dyn Error>> {
    let includes = Path::new(CRATE).join("proto");
    Ok(protox::compile(
        [includes.join("arkeep/agent/v1/agent.proto")],
        [includes],
    )?)
}

#[test]
fn is_what_the_proto_says() -> Result<(), Box<dyn Error>> {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let committed = Path::new(CRATE).join("src/proto").join(FILE);

    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .out_dir(fresh)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .build_transport(false)
        .skip_debug([
            ".arkeep.agent.v1.EnrollRequest",
            ".arkeep.agent.v1.Repository",
            ".arkeep.agent.v1.RestCredentials",
            ".arkeep.agent.v1.S3Credentials",
            ".arkeep.agent.v1.SftpCredentials",
            ".arkeep.agent.v1.RcloneCredentials",
        ])
        .compile_fds(descriptors()?)?;

    let fresh = fresh.join(FILE);
    let same = std::fs::read(&fresh)? == std::fs::read(&committed).unwrap_or_default();
    assert!(
        same,
        "the proto has changed; run `cp {} {}`",
        fresh.display(),
        committed.display()
    );
    Ok(())
}
