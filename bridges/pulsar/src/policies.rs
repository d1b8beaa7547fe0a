//! What a topic's policies mean for messages that must stay until they are acknowledged. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The policies in force for one topic.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub message_ttl_seconds: Option<i64>,
    pub backlog_quotas: BTreeMap<String, BacklogQuota>,
    pub inactive: Option<InactivePolicy>,
    pub subscription_expiration_minutes: Option<i64>,
    pub max_message: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BacklogQuota {
    limit_size: i64,
    limit_time: i64,
    policy: String,
}

impl Default for BacklogQuota {
    fn default() -> Self {
        BacklogQuota { limit_size: -1, limit_time: -1, policy: String::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct InactivePolicy {
    inactive_topic_delete_mode: String,
    delete_while_inactive: bool,
}

impl Policies {
    /// Each way in which a message could vanish before the subscription acknowledged it: the setting, and what to do.
    pub fn losses(&self, namespace: &str) -> Vec<String> {
        let mut losses = Vec::new();
        if let Some(ttl) = self.message_ttl_seconds.filter(|ttl| *ttl > 0) {
            losses.push(format!(
                "message TTL drops messages after {ttl} s: `pulsar-admin namespaces set-message-ttl --messageTTL 0 {namespace}`, \
                 and no TTL of the topic's own"
            ));
        }
        for (kind, _) in self.limits().filter(|(_, quota)| quota.policy == "consumer_backlog_eviction") {
            losses.push(format!(
                "backlog quota {kind} evicts unread messages (consumer_backlog_eviction): \
                 `pulsar-admin namespaces set-backlog-quota --policy producer_request_hold ... {namespace}`"
            ));
        }
        if let Some(minutes) = self.subscription_expiration_minutes.filter(|minutes| *minutes > 0) {
            losses.push(format!(
                "a subscription nobody is connected to is deleted after {minutes} min: \
                 `pulsar-admin namespaces set-subscription-expiration-time --time 0 {namespace}`"
            ));
        }
        let inactive = self.inactive.as_ref().filter(|inactive| inactive.delete_while_inactive);
        if inactive.is_some_and(|inactive| inactive.inactive_topic_delete_mode == "delete_when_subscriptions_caught_up")
        {
            losses.push(format!(
                "an inactive topic is deleted together with its subscriptions once they have read everything \
                 (delete_when_subscriptions_caught_up), and what is written next has no subscription: \
                 `pulsar-admin namespaces set-inactive-topic-policies --delete-mode delete_when_no_subscriptions ... {namespace}`"
            ));
        }
        losses
    }

    /// What does not lose messages, but may stop them.
    pub fn warnings(&self) -> Vec<String> {
        let held = self.limits().filter(|(_, quota)| quota.policy != "consumer_backlog_eviction");
        held.map(|(kind, quota)| {
            let (size, time, policy) = (quota.limit_size, quota.limit_time, &quota.policy);
            format!("backlog quota {kind} ({size} bytes, {time} s) refuses producers when it is used up ({policy})")
        })
        .collect()
    }

    /// The topic's own limit of a message, in bytes, where it has one.
    pub fn max_message(&self) -> Option<usize> {
        self.max_message.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0)
    }

    fn limits(&self) -> impl Iterator<Item = (&String, &BacklogQuota)> {
        self.backlog_quotas.iter().filter(|(_, quota)| quota.limit_size >= 0 || quota.limit_time > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(json: &str) -> Policies {
        Policies { backlog_quotas: serde_json::from_str(json).unwrap(), ..Default::default() }
    }

    #[test]
    fn nothing_is_lost_under_pulsars_defaults() {
        let mut policies = quotas(
            r#"{"destination_storage":{"limit":-1,"limitSize":-1,"limitTime":-1,"policy":"producer_request_hold"}}"#,
        );
        policies.message_ttl_seconds = Some(0);
        policies.subscription_expiration_minutes = Some(0);
        let inactive = r#"{"inactiveTopicDeleteMode":"delete_when_no_subscriptions","maxInactiveDurationSeconds":60,"deleteWhileInactive":true}"#;
        policies.inactive = serde_json::from_str(inactive).unwrap();
        assert_eq!(policies.losses("t/n"), Vec::<String>::new());
        assert_eq!(policies.warnings(), Vec::<String>::new());
    }

    #[test]
    fn every_setting_that_can_drop_a_message_is_named() {
        let mut policies = quotas(r#"{"message_age":{"limitTime":10,"policy":"consumer_backlog_eviction"}}"#);
        assert!(policies.losses("t/n")[0].contains("consumer_backlog_eviction"));
        policies.message_ttl_seconds = Some(60);
        policies.subscription_expiration_minutes = Some(5);
        let inactive =
            r#"{"inactiveTopicDeleteMode":"delete_when_subscriptions_caught_up","deleteWhileInactive":true}"#;
        policies.inactive = serde_json::from_str(inactive).unwrap();
        assert_eq!(policies.losses("t/n").len(), 4);
    }

    #[test]
    fn a_quota_that_only_holds_producers_is_a_warning() {
        let policies = quotas(r#"{"destination_storage":{"limitSize":1000,"policy":"producer_exception"}}"#);
        assert!(policies.losses("t/n").is_empty());
        assert_eq!(policies.warnings().len(), 1);
    }
}
