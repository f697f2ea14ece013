//! A column that takes a sealed secret does not take the secret.

fn store(_: arkeep_vault::Sealed) {}

fn main() {
    store(arkeep_vault::SecretString::from("hunter2"));
}
