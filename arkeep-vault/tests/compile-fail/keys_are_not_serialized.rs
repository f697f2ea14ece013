//! Nor does a key.

fn write(_: impl serde::Serialize) {}

fn main() {
    write(arkeep_vault::KeyEncryptionKey::from_bytes(&vec![1; 32].into()).unwrap());
    let id = arkeep_vault::KeyId::from_bytes([0; 8]);
    write(arkeep_vault::DataKey::new(id, &vec![1; 32].into()).unwrap());
}
