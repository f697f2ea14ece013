//! What sealing and opening cost beside bare AES-256-GCM.
//!
//! V9: at most 3× the bare `aes-gcm` crate with a prepared key for 256 bytes, and 1.15× for 64 KiB.
//! The bare ciphers are given a prepared key, a nonce for nothing, and the same associated data;
//! ours fetches its nonce, derives a key for the message and builds the associated data.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has nothing to measure"
)]

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use arkeep_vault::{Binding, Keyring, Sealer, SecretSlice, Vault};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [64, 256, 4 << 10, 64 << 10];
const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; 12] = [9; 12];
const AAD: &[u8] = &[3; 84];

fn vault() -> (Vault, Binding) {
    let place = Binding::new("destinations", "credentials", [5; 16]);
    (Vault::new(Keyring::generate(0).unwrap()), place)
}

fn bare() -> Aes256Gcm {
    Aes256Gcm::new(&KEY.into())
}

fn payload(message: &[u8]) -> Payload<'_, '_> {
    Payload {
        msg: message,
        aad: AAD,
    }
}

fn provider() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).unwrap())
}

fn nonce() -> aws_lc_rs::aead::Nonce {
    aws_lc_rs::aead::Nonce::assume_unique_for_key(NONCE)
}

#[divan::bench_group]
mod seal {
    use super::*;

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn arkeep_vault(bencher: Bencher<'_, '_>, size: usize) {
        let (vault, place) = vault();
        let secret = SecretSlice::from(vec![1; size]);
        bencher
            .counter(BytesCount::new(size))
            .bench_local(|| vault.seal(&secret, &place).unwrap());
    }

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn bare_aes_gcm(bencher: Bencher<'_, '_>, size: usize) {
        let cipher = bare();
        let secret = vec![1; size];
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            cipher
                .encrypt(&Nonce::from(NONCE), payload(&secret))
                .unwrap()
        });
    }

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn aws_lc_rs(bencher: Bencher<'_, '_>, size: usize) {
        let cipher = provider();
        let secret = vec![1; size];
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            let mut buffer = Vec::with_capacity(size + 16);
            buffer.extend_from_slice(&secret);
            cipher
                .seal_in_place_append_tag(nonce(), Aad::from(AAD), &mut buffer)
                .unwrap();
            buffer
        });
    }
}

#[divan::bench_group]
mod open {
    use super::*;

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn arkeep_vault(bencher: Bencher<'_, '_>, size: usize) {
        let (vault, place) = vault();
        let sealed = vault.seal(&vec![1; size].into(), &place).unwrap();
        bencher
            .counter(BytesCount::new(size))
            .bench_local(|| vault.open(&sealed, &place).unwrap());
    }

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn bare_aes_gcm(bencher: Bencher<'_, '_>, size: usize) {
        let cipher = bare();
        let nonce = Nonce::from(NONCE);
        let sealed = cipher.encrypt(&nonce, payload(&vec![1; size])).unwrap();
        bencher
            .counter(BytesCount::new(size))
            .bench_local(|| cipher.decrypt(&nonce, payload(&sealed)).unwrap());
    }

    #[divan::bench(args = SIZES, sample_count = 1000)]
    fn aws_lc_rs(bencher: Bencher<'_, '_>, size: usize) {
        let cipher = provider();
        let mut sealed = vec![1; size];
        cipher
            .seal_in_place_append_tag(nonce(), Aad::from(AAD), &mut sealed)
            .unwrap();
        bencher.counter(BytesCount::new(size)).bench_local(|| {
            let mut buffer = sealed.clone();
            cipher
                .open_in_place(nonce(), Aad::from(AAD), &mut buffer)
                .unwrap();
            buffer
        });
    }
}

/// What of it is the fresh nonce.
#[divan::bench(sample_count = 1000)]
fn operating_system_randomness() -> [u8; 24] {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).unwrap();
    nonce
}
