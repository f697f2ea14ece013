//! A secret does not end up in an answer by way of a derive.

#[derive(serde::Serialize)]
struct Answer {
    password: arkeep_vault::SecretString,
}

fn main() {}
