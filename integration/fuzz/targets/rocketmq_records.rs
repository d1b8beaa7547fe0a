#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trestle_rocketmq::fuzz::records(bytes));
