//! One suite that every connector passes: what the traits of `trestle-core` promise, tried with nothing but these traits.
//!
//! A connector's tests are one line: `trestle_conformance::conformance_tests!(subject().await)`. It makes one test a
//! promise, named after it; what differs between protocols is said in [`Features`].
// The suite is test code throughout: it fails by panicking.
#![allow(clippy::unwrap_used)]

mod credit;
mod groups;
mod lanes;
mod positions;
mod readers;
mod rig;
mod roundtrip;
mod starts;
mod topics;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use trestle_core::{BoxFuture, Connector};

pub mod promises {
    //! One function a promise; each panics when it is broken.
    pub use crate::{credit::*, groups::*, lanes::*, positions::*, readers::*, roundtrip::*, starts::*, topics::*};
}

/// A connector to be tried, and the cluster behind it.
pub trait Subject: Send + Sync {
    fn connector(&self) -> Arc<dyn Connector>;

    fn features(&self) -> Features;

    /// The protocol's full name for a new topic; `name` has letters, digits and hyphens.
    fn topic(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Makes what must exist before the group can read the topic.
    fn prepare_group<'a>(&'a self, _topic: &'a str, _group: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn source_options(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn sink_options(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// What the protocol can do. A promise that it cannot give is left out for it.
#[derive(Clone, Debug)]
pub struct Features {
    /// A newer lane ends an older one.
    pub fences: bool,
    /// A message without a time comes back without one.
    pub absent_time: bool,
    /// A member hears that a partition goes to another before it does, and may still settle and commit.
    pub revokes_before: bool,
    /// Positions are numbers: a group may be told at which to begin.
    pub offsets: bool,
    /// `ensure` can make a durable subscription.
    pub durable: bool,
    /// Bytes of a value that the cluster surely refuses; `None`: one more than `describe` says.
    pub too_large: Option<usize>,
    /// Time by which something that must happen has happened.
    pub patience: Duration,
    /// Time for which nothing happens before it is taken for never.
    pub quiet: Duration,
}

impl Default for Features {
    fn default() -> Self {
        Features {
            fences: false,
            absent_time: true,
            revokes_before: true,
            offsets: true,
            durable: false,
            too_large: None,
            patience: Duration::from_secs(90),
            quiet: Duration::from_secs(2),
        }
    }
}

/// One test a promise. The subject is an expression that may await; what follows it goes to `#[tokio::test(..)]`.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr $(, $($runtime:tt)+)?) => {
        $crate::conformance_tests! { @each ($subject) ($($($runtime)+)?)
            every_message_comes_back_byte_for_byte
            a_message_without_a_time_comes_back_without_one
            what_is_sent_to_a_partition_is_read_from_it
            order_holds_over_several_windows_of_sends
            a_healthy_partition_answers_a_probe
            a_key_has_one_place
            a_message_too_large_is_refused_alone_and_its_neighbours_are_stored_in_order
            nothing_in_flight_behind_a_failed_send_is_stored
            a_newer_fenced_lane_ends_the_older_one
            a_lane_can_be_closed_and_opened_again
            nothing_is_handed_out_before_start
            nothing_is_handed_out_without_credit
            credit_is_kept_to_the_message_that_crosses_the_line
            credit_zero_pauses_and_credit_given_back_resumes
            small_credits_bring_everything_once_and_in_order
            a_new_source_goes_on_at_the_committed_position
            an_unsettled_message_is_never_skipped
            an_answered_commit_survives_a_crash
            settled_positions_are_committed_unasked
            a_dropped_batch_is_read_again_from_the_lowest_unsettled_in_order
            within_an_epoch_nothing_is_handed_out_twice
            a_source_starts_where_it_is_told
            earliest_is_the_first_message_and_latest_behind_the_last
            a_group_that_began_at_the_end_keeps_its_place
            a_group_without_a_position_begins_at_a_time
            a_group_without_a_position_begins_at_offsets
            the_topics_that_there_are_are_listed
            next_may_be_cancelled_at_any_time
            closing_twice_is_fine_and_next_stays_pending
            a_second_member_gets_partitions_and_nothing_is_lost
            what_settles_during_a_revoke_is_not_read_again
            partitions_of_a_member_that_leaves_are_given_to_the_other
            a_reader_reads_everything_once_in_order_and_ends
            a_reader_leaves_groups_as_they_are
            a_reader_from_a_time_leaves_out_what_is_older
            a_reader_that_follows_waits_for_what_is_written
            a_reader_of_an_empty_topic_ends_at_once
            a_reader_of_an_unknown_topic_says_so
            ensure_creates_grows_and_never_takes_away
            an_unknown_topic_is_said_to_be_unknown
            a_durable_subscription_keeps_what_came_before_its_first_reader
        }
    };
    (@each ($subject:expr) $runtime:tt $($promise:ident)+) => {
        $($crate::conformance_tests! { @one ($subject) $runtime $promise })+
    };
    (@one ($subject:expr) ($($runtime:tt)*) $promise:ident) => {
        #[tokio::test($($runtime)*)]
        async fn $promise() {
            let subject = $subject;
            $crate::promises::$promise(&subject).await;
        }
    };
}
