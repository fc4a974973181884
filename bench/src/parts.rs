//! The parts of a run, one after the other.

use crate::flags::{Amount, Cni, Run, Section};
use crate::interrupt::Interrupt;
use crate::output::Outputs;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::Plan;
use crate::{Failure, cni, control, here, kube_proxy, run};
use heddle_tests::cgroup;

/// What is asked for.
#[derive(Debug)]
pub struct Parts {
    sections: Vec<Section>,
    plan: Plan,
    profile: Profile,
    plugins: cni::Settings,
    /// The cluster as it is, in place of all others.
    here: Option<here::Settings>,
}

impl Parts {
    /// Those of a run.
    ///
    /// # Errors
    /// When what is asked for cannot be measured.
    pub fn of(asked: &Run, amount: Amount, outputs: &Outputs) -> Result<Self, Failure> {
        let plan = asked.plan(amount, outputs)?;
        Ok(Self {
            sections: asked.only.clone(),
            profile: asked.profile(amount, &plan),
            plan,
            plugins: Cni::default().settings(amount),
            here: asked.here(amount),
        })
    }

    /// Plugins alone.
    pub fn of_plugins(asked: &Cni, amount: Amount) -> Self {
        Self {
            sections: vec![Section::Plugin],
            plan: amount.plan(),
            profile: amount.profile(),
            plugins: asked.settings(amount),
            here: None,
        }
    }

    /// Measures them all, and adds what was found.
    ///
    /// # Errors
    /// When something cannot be measured, or the run is interrupted.
    pub fn measure(&self, stop: &Interrupt, report: &mut Report) -> Result<(), Failure> {
        if let Some(here) = &self.here {
            return here::measure(here, stop, &mut Progress::new(here::weight(here), stop), report);
        }
        // Where there are no cgroups, a run that was killed has left none.
        let _ = cgroup::sweep();
        if let Some(program) = &self.plan.kube_proxy {
            let version = kube_proxy::version(program)?;
            report.environment.programs.insert("kube-proxy".to_owned(), version);
        }
        let mut progress = Progress::new(self.weight(), stop);
        if self.has(Section::DataPlane) {
            run::measure(&self.plan, stop, &mut progress, report)?;
        }
        if self.has(Section::ControlPlane) {
            let followed = (&self.profile, self.plan.kube_proxy.as_deref());
            control::measure(followed, stop, &mut progress, report)?;
        }
        if self.has(Section::Plugin) {
            cni::measure(&self.plugins, &mut progress, report)?;
        }
        Ok(())
    }

    fn has(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// The seconds that they may take.
    fn weight(&self) -> f64 {
        let weights = [
            (Section::DataPlane, run::weight(&self.plan)),
            (Section::ControlPlane, control::weight(&self.profile)),
            (Section::Plugin, cni::weight(&self.plugins)),
        ];
        weights.iter().filter(|(section, _)| self.has(*section)).map(|(_, weight)| weight).sum()
    }
}
