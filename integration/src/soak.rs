/// One of two: the second in the long form, which `TRESTLE_SOAK=1` asks for.
pub fn short_or_soak<T>(short: T, long: T) -> T {
    let soak = std::env::var_os("TRESTLE_SOAK").is_some_and(|value| value == "1");
    if soak { long } else { short }
}
