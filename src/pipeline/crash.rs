//! Places at which a test ends the process, without a word and at once, or lets a lane panic. Nothing without the feature
//! `failpoints`.

/// `$FAILPOINTS` names `HOP.PLACE` and the pass at which it happens, as in `deliver.stored=10*off->return`, or
/// `10*off->1*panic->off`.
#[cfg(feature = "failpoints")]
pub(super) fn point(hop: &str, place: &str) {
    fail::fail_point!(&format!("{hop}.{place}"), |_| -> () { std::process::abort() });
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) fn point(_hop: &str, _place: &str) {}
