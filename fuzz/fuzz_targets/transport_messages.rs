//! Messages of either side, and what an agent keeps on disk: whatever is taken in says the same
//! when it is said again.
#![no_main]

use arkeep_core::ExposeSecret;
use arkeep_transport::testing::messages::{
    read_agent_message, read_server_message, write_agent_message,
};
use arkeep_transport::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = read_agent_message(bytes) {
        let written = write_agent_message(&message).expect("what was read can be written");
        assert_eq!(read_agent_message(&written).as_ref(), Ok(&message));
    }
    let _ = read_server_message(bytes);
    if let Ok(report) = wire::decode_report(bytes) {
        let written = wire::encode_report(&report).expect("what was read can be written");
        assert_eq!(wire::decode_report(&written), Ok(report));
    }
    if let Ok(assignment) = wire::decode_assignment(bytes) {
        let written = wire::encode_assignment(&assignment).expect("what was read can be written");
        let again = wire::decode_assignment(written.expose_secret()).expect("and read again");
        let rewritten = wire::encode_assignment(&again).expect("and written again");
        assert_eq!(written.expose_secret(), rewritten.expose_secret());
    }
});
