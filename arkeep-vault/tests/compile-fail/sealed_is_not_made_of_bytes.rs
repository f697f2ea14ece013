//! Bytes become a sealed secret by being read as one, and only so.

fn main() {
    let _ = arkeep_vault::Sealed::from(vec![1u8; 64]);
}
