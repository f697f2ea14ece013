//! The list of keys, which is what a ring encrypts.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretSlice};

use super::entry::RingEntry;
use super::format::Reader;
use super::{KeyInfo, KeyState, Keyring, MOST_KEYS, RingFormatError};
use crate::xaes::KEY_LEN;
use crate::{DataKey, KeyId};

/// The list of keys, to be encrypted.
pub(super) fn encode(ring: &Keyring) -> SecretSlice<u8> {
    // All the room at once: growing later would leave a copy of the keys behind.
    let mut bytes = Vec::with_capacity(RING_HEAD_LEN + ring.keys.len() * ENTRY_LEN);
    bytes.extend_from_slice(&ring.revision.to_be_bytes());
    bytes.extend_from_slice(&(ring.keys.len() as u16).to_be_bytes());
    for entry in &ring.keys {
        let info = entry.info();
        bytes.extend_from_slice(&info.id.to_bytes());
        bytes.push(match info.state {
            KeyState::Primary => 1,
            KeyState::Decrypt => 2,
            KeyState::Disabled => 3,
        });
        bytes.extend_from_slice(&info.created_at.to_be_bytes());
        bytes.extend_from_slice(&info.changed_at.to_be_bytes());
        bytes.extend_from_slice(&info.messages_sealed.to_be_bytes());
        bytes.extend_from_slice(entry.bytes.expose_secret());
    }
    debug_assert_eq!(bytes.len(), RING_HEAD_LEN + ring.keys.len() * ENTRY_LEN);
    bytes.into()
}

/// The list of keys, once it is decrypted.
pub(crate) fn decode(bytes: &[u8]) -> Result<Keyring, RingFormatError> {
    let mut reader = Reader(bytes);
    let revision = reader.array().ok_or(RingFormatError::Keys)?;
    let count = reader.array().ok_or(RingFormatError::Keys)?;
    let count = usize::from(u16::from_be_bytes(count));
    if reader.0.len() != count * ENTRY_LEN || count > MOST_KEYS {
        return Err(RingFormatError::Keys);
    }
    let keys = (0..count)
        .map(|_| decode_entry(&mut reader))
        .collect::<Option<Vec<_>>>()
        .ok_or(RingFormatError::Keys)?;
    let mut ids: Vec<_> = keys.iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != keys.len() {
        return Err(RingFormatError::Keys);
    }
    let primaries = keys
        .iter()
        .filter(|entry| entry.state == KeyState::Primary)
        .count();
    if primaries != 1 {
        return Err(RingFormatError::Primaries { count: primaries });
    }
    Ok(Keyring {
        keys,
        revision: u64::from_be_bytes(revision),
    })
}

fn decode_entry(reader: &mut Reader<'_>) -> Option<RingEntry> {
    let info = KeyInfo {
        id: KeyId::from_bytes(reader.array()?),
        state: match reader.array()? {
            [1] => KeyState::Primary,
            [2] => KeyState::Decrypt,
            [3] => KeyState::Disabled,
            _ => return None,
        },
        created_at: i64::from_be_bytes(reader.array()?),
        changed_at: i64::from_be_bytes(reader.array()?),
        messages_sealed: u64::from_be_bytes(reader.array()?),
    };
    let key = reader.0.first_chunk::<KEY_LEN>()?;
    let bytes = reader.take(KEY_LEN)?.to_owned();
    let ready = Arc::new(DataKey::from_array(info.id, key));
    Some(RingEntry::new(info, bytes.into(), ready))
}

const RING_HEAD_LEN: usize = 8 + 2;
const ENTRY_LEN: usize = 8 + 1 + 3 * 8 + KEY_LEN;
