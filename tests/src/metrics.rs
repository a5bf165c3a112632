//! What `/metrics` of the admin listener says about a service, or about the host.

use std::collections::BTreeMap;

use crate::host::{Host, Service};
use crate::wait::eventually;

/// One value by its name and labels, as Prometheus writes them; 0 if it is not there.
pub async fn metric(host: &Host, name: &str) -> f64 {
    Metrics::of(host).await.sum(name, &[])
}

/// Waits until a value is as wanted.
pub async fn reaches(host: &Host, name: &str, wanted: impl Fn(f64) -> bool) {
    eventually(&format!("{name} is as wanted"), async || {
        let value = metric(host, name).await;
        if wanted(value) { Ok(()) } else { Err(value) }
    })
    .await;
}

/// What `/metrics` said at one time.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Asks the admin listener.
    pub async fn of(host: &Host) -> Self {
        Self(host.admin("/metrics").send().await.expect(200).text())
    }

    /// The sum of all series of a name that carry these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let value = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let whole = labels.is_empty() || labels.starts_with('{');
            let carries = wanted.iter().all(|label| labels.contains(label));
            (whole && carries).then(|| value.parse().expect("a number"))
        };
        // An empty sum of floats is -0.
        self.0.lines().filter_map(value).sum::<f64>() + 0.0
    }

    /// Swaps of a service by their result: `ok`, `failed`, `rolled_back`.
    pub fn swaps(&self, service: Service, result: &str) -> f64 {
        let labels = [("service", service.name()), ("result", result)];
        self.sum("lockgate_swaps_total", &labels)
    }

    /// Revisions in memory, by service.
    pub fn alive(&self) -> BTreeMap<Service, f64> {
        let one = |service: Service| {
            let labels = [("service", service.name())];
            (service, self.sum("lockgate_revisions_alive", &labels))
        };
        Service::ALL.into_iter().map(one).collect()
    }
}

impl Host {
    /// The value of a service's metric, summed over what other labels it has; 0 if it
    /// was never set.
    pub async fn metric(&self, service: Service, name: &str) -> f64 {
        let labels = [("service", service.name())];
        Metrics::of(self).await.sum(name, &labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text = "# TYPE a counter\na{service=\"x\",result=\"ok\"} 2\n\
                    a{service=\"y\",result=\"ok\"} 3\na_sum{service=\"x\"} 9\nb 4\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("a", &[]), 5.0);
        assert_eq!(metrics.sum("a", &[("service", "x")]), 2.0);
        assert_eq!(metrics.sum("a", &[("service", "z")]), 0.0);
        assert_eq!(metrics.sum("b", &[]), 4.0);
    }
}
