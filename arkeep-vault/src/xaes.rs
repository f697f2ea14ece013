//! XAES-256-GCM: AES-256-GCM with a nonce long enough to be random.
//!
//! Plain GCM takes 96 bits of nonce, and random ones may be used for 2^32 messages under one key
//! before a repeat is likely enough to worry (NIST SP 800-38D, section 8.3). Here the first half
//! of a 192-bit nonce derives a key for this one message, and the second half is its GCM nonce.
//! The construction is that of C2SP (<https://c2sp.org/XAES-256-GCM>): the counter-mode key
//! derivation of NIST SP 800-108r1 with CMAC, written out as three AES calls of which one is made
//! once for each key.

use aes::Aes256Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, consts::U12};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

use crate::stack;

/// A 256-bit key: its AES schedule and its CMAC subkey.
pub(crate) struct XaesKey {
    cipher: Aes256Enc,
    subkey: Zeroizing<[u8; BLOCK]>,
}

/// The half that derives the message's key, and the half that GCM sees.
pub(crate) type Nonce = [[u8; NONCE_LEN / 2]; 2];

/// AES-256-GCM with a nonce of 96 bits.
///
/// GCM only ever encrypts blocks, so the schedule for decrypting them is not made.
type MessageCipher = AesGcm<Aes256Enc, U12>;

/// The tag did not match, or the message is longer than GCM allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl XaesKey {
    /// Boxed, because the schedule begins with the key itself, and a value that is moved leaves a
    /// copy on the stack.
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Box<Self> {
        stack::leaving_nothing(|| Box::new(Self::schedule(key)))
    }

    fn schedule(key: &[u8; KEY_LEN]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut zero = Zeroizing::new([0; BLOCK]);
        cipher.encrypt_block((&mut *zero).into());
        let subkey = Zeroizing::new(double(&zero));
        Self { cipher, subkey }
    }

    /// Encrypts `buffer` where it lies. Fails only beyond GCM's 64 GiB, before it changes a byte.
    pub(crate) fn seal(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Refused> {
        let [context, rest] = nonce;
        stack::leaving_nothing(|| {
            self.derive(context)
                .encrypt_inout_detached(rest.into(), aad, buffer.into())
                .map(Into::into)
                .map_err(|_| Refused)
        })
    }

    /// Decrypts `buffer` where it lies if the tag is right, else leaves it as it was.
    pub(crate) fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Refused> {
        let [context, rest] = nonce;
        stack::leaving_nothing(|| {
            self.derive(context)
                .decrypt_inout_detached(rest.into(), aad, buffer.into(), tag.into())
                .map_err(|_| Refused)
        })
    }

    /// `nonce ‖ ciphertext ‖ tag`, under a random nonce.
    pub(crate) fn seal_message(
        &self,
        aad: &[u8],
        message: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = Nonce::default();
        getrandom::fill(nonce.as_flattened_mut())?;
        let mut buffer = Zeroizing::new(message.to_owned());
        // What is sealed this way is a ring, far from the 64 GiB at which GCM stops.
        let tag = self
            .seal(&nonce, aad, &mut buffer)
            .map_err(|Refused| getrandom::Error::UNSUPPORTED)?;
        Ok([nonce.as_flattened(), &buffer, &tag].concat())
    }

    /// Opens what [`seal_message`](Self::seal_message) made.
    pub(crate) fn open_message(
        &self,
        aad: &[u8],
        message: &[u8],
    ) -> Result<SecretSlice<u8>, Refused> {
        let (nonce, rest) = message.split_first_chunk::<NONCE_LEN>().ok_or(Refused)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Refused)?;
        let mut halves = Nonce::default();
        halves.as_flattened_mut().copy_from_slice(nonce);
        let mut buffer = ciphertext.to_owned();
        self.open(&halves, aad, &mut buffer, tag)?;
        Ok(buffer.into())
    }

    /// The AES-256-GCM key of one message.
    ///
    fn derive(&self, context: &[u8; NONCE_LEN / 2]) -> MessageCipher {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let (blocks, _) = key.as_chunks_mut::<BLOCK>();
        for (counter, block) in (1..).zip(blocks.iter_mut()) {
            // One full block each, so CMAC is a single AES call on the block masked with its subkey.
            *block = *self.subkey;
            let message = [0, counter, b'X', 0];
            for (byte, input) in block.iter_mut().zip(message.iter().chain(context)) {
                *byte ^= input;
            }
        }
        self.cipher
            .encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
        Aes256Enc::new((&*key).into()).into()
    }
}

/// Multiplies by x in CMAC's field (NIST SP 800-38B, section 6.1), without a branch on the key.
fn double(block: &[u8; BLOCK]) -> [u8; BLOCK] {
    let value = u128::from_be_bytes(*block);
    let carry = (value >> 127).wrapping_neg() & 0b1000_0111;
    ((value << 1) ^ carry).to_be_bytes()
}

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 24;
pub(crate) const TAG_LEN: usize = 16;
const BLOCK: usize = 16;

#[cfg(test)]
mod tests;
