/// The metrics page, read.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    name: String,
    /// As they stand between the braces.
    labels: String,
    value: f64,
}

impl Metrics {
    pub fn parse(page: &str) -> Metrics {
        let lines = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Line { name: name.into(), labels: labels.into(), value: value.parse().ok()? })
        });
        Metrics(lines.collect())
    }

    /// The sum of a metric's series that have all these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |line: &&Line| labels.iter().all(|(label, value)| line.labels.contains(&format!("{label}=\"{value}\"")));
        self.0.iter().filter(|line| line.name == name).filter(has).map(|line| line.value).sum()
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
