//! What must not compile.

/// V8
#[test]
fn secrets_are_neither_printed_nor_written() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}
