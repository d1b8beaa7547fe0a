#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trestle_dlq::fuzz::dead_letters(bytes));
