//! Output: no secret survives in any form, and how it was cut makes no difference.
//!
//! The input is three lines and a rest: a secret, another, the places to cut, and the text, in
//! which `\1` to `\5` stand for forms of the first secret.
#![no_main]

use arkeep_hooks::Secrets;
use arkeep_hooks::output::Capture;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let (Some(first), Some(second), Some(cuts), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let secrets = Secrets::new([first, second]);
    let forms = forms(first);
    let text = fill(rest, &forms);

    let whole = capture(&secrets, &[&text]);
    let pieces = cut(&text, cuts);
    assert_eq!(capture(&secrets, &pieces), whole);
    assert!(whole.len() < 65 * 1024);
    assert!(!whole.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    // A secret that the placeholder itself could show proves nothing.
    let telling = first.len() >= 6 && first.iter().all(u8::is_ascii_graphic);
    if telling && !first.iter().any(|byte| b"REDACTED[]".contains(byte)) {
        let shown = whole.replace("[REDACTED]", " | ").replace("bytes left out", "");
        for form in &forms {
            let form = String::from_utf8_lossy(form);
            assert!(!shown.contains(&*form), "{form:?} is in {shown:?}");
        }
    }
});

fn forms(secret: &[u8]) -> [Vec<u8>; 5] {
    let percent = secret.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect();
    let hex = secret.iter().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect();
    [
        secret.to_vec(),
        STANDARD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        hex,
        percent,
    ]
}

fn fill(text: &[u8], forms: &[Vec<u8>; 5]) -> Vec<u8> {
    let mut filled = Vec::new();
    for byte in text {
        match byte {
            1..=5 => filled.extend_from_slice(&forms[usize::from(*byte) - 1]),
            byte => filled.push(*byte),
        }
    }
    filled
}

fn cut<'a>(mut text: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = text.split_at(usize::from(*cut).min(text.len()));
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

fn capture(secrets: &Secrets, pieces: &[&[u8]]) -> String {
    let mut capture = Capture::new(secrets);
    for piece in pieces {
        capture.push(piece);
    }
    capture.finish()
}
