use crate::exposition::Series;

/// The metrics page, read.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Series>);

impl Metrics {
    pub fn parse(page: &str) -> Metrics {
        Metrics(page.lines().filter_map(Series::parse).collect())
    }

    /// The sum of a metric's series that have all these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|has| has == value))
        };
        self.0.iter().filter(|series| series.name == name).filter(has).map(|series| series.value).sum()
    }

    /// [`sum`](Self::sum) for one hop of the only route.
    pub fn hop(&self, hop: &str, name: &str) -> u64 {
        self.sum(&format!("trestle_{name}"), &[("hop", hop)]) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_their_labels() {
        let page = "# HELP x y\ntrestle_a_total{route=\"r\",hop=\"stage\"} 3\ntrestle_a_total{route=\"r\",hop=\"deliver\",cause=\"timeout\"} 4\nother 1\n";
        let metrics = Metrics::parse(page);
        assert_eq!((metrics.hop("stage", "a_total"), metrics.hop("deliver", "a_total")), (3, 4));
        assert_eq!(metrics.sum("trestle_a_total", &[]), 7.0);
        assert_eq!(metrics.sum("absent", &[]), 0.0);
    }
}
