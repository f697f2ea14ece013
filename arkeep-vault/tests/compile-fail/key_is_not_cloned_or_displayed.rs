//! A data key and a key-encryption key stay where they are.

fn print(_: impl std::fmt::Display) {}

fn main() {
    let key = arkeep_vault::DataKey::new("0101010101010101".parse().unwrap(), &vec![1; 32].into()).unwrap();
    let _ = key.clone();
    print(key);
    let guard = arkeep_vault::KeyEncryptionKey::from_bytes(&vec![1; 32].into()).unwrap();
    let _ = guard.clone();
    print(guard);
}
