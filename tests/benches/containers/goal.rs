//! What a measurement is held against.

/// What is to be reached.
pub struct Goal {
    pub what: String,
    pub value: f64,
    pub most: f64,
}

impl Goal {
    /// Says whether it was.
    pub fn tell(&self) {
        let Goal { what, value, most } = self;
        let verdict = if value <= most { "ok" } else { "!!" };
        println!("{verdict} {what}: {value:.3}, goal {most:.3}");
    }
}
