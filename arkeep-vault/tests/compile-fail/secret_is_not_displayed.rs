//! A secret does not end up in a message by way of `{}`.

fn main() {
    let secret = arkeep_vault::SecretString::from("hunter2");
    println!("{secret}");
}
