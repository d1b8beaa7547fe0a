#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trestle::fuzz::route_table(bytes));
