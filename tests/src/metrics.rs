//! What `/metrics` of the admin listener says about a service.

use crate::host::{Host, Service};

impl Host {
    /// The value of a service's metric, summed over what other labels it has; 0 if it
    /// was never set.
    pub async fn metric(&self, service: Service, name: &str) -> f64 {
        self.metric_where(service, name, "").await
    }

    /// As [`Host::metric`], of the series that also have this label, e.g.
    /// `kind="trap"`.
    pub async fn metric_where(&self, service: Service, name: &str, label: &str) -> f64 {
        let all = self.admin("/metrics").send().await.expect(200).text();
        let begin = format!("{name}{{");
        let wanted = format!("service=\"{}\"", service.name());
        all.lines()
            .filter(|line| line.starts_with(&begin))
            .filter(|line| line.contains(&wanted) && line.contains(label))
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or_default();
                value.parse::<f64>().expect("a number")
            })
            .sum()
    }
}
