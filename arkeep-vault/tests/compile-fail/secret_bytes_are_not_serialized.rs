//! Nor do bytes.

fn write(_: impl serde::Serialize) {}

fn main() {
    write(arkeep_vault::SecretSlice::from(vec![1u8]));
}
