//! Several threads that compute one sample together.
//!
//! Every thread has buffers of its own and takes every step. Of a step that is worth sharing each computes its rows alone, lays
//! them out for the others and takes theirs; all other steps are so short that each thread computes them whole. There is no
//! shared memory but the rows that are laid out, one step's while the other threads may still read those of the step before,
//! so one meeting a shared step is enough. A thread without work waits for a moment and then sleeps.

extern crate std;

use alloc::{sync::Arc, vec, vec::Vec};
use core::{
    hint::spin_loop,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    codes::{CodesMut, CodesRef},
    forward::{compute, enter},
    kernels::fast::{Kernel, Level},
    memory::Memory,
    plan::{Plan, Step, StepKernel},
};

/// Turns of waiting before a thread lets others run, and before one without work sleeps.
const PATIENT: usize = 1 << 12;
const AWAKE: usize = PATIENT + 64;

/// What the threads share.
#[derive(Debug)]
struct Shared {
    plan: Arc<Plan>,
    threads: usize,
    /// Steps up to the last shared one.
    steps: usize,
    input: Mutex<Vec<i8>>,
    /// Rows of each thread, for even and for odd shared steps.
    rows: [Vec<Mutex<Vec<i8>>>; 2],
    /// How often a sample was begun.
    begun: AtomicUsize,
    /// How often a thread has come to a meeting.
    arrived: AtomicUsize,
    /// Whether the threads shall end, and whether one of them has failed.
    ended: AtomicBool,
    failed: AtomicBool,
}

/// A step that the threads share.
#[derive(Clone, Copy)]
struct Share<'a> {
    step: &'a Step,
    kernel: &'a Kernel,
    level: Level,
    /// Rows of the result, and codes of a row.
    rows: usize,
    length: usize,
}

/// The threads beside the caller's.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    others: Vec<JoinHandle<()>>,
    /// Meetings so far.
    meetings: usize,
    allocated: [usize; 2],
}

/// Sets the flag if the thread that holds it fails, so that no other waits for it.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

impl Team {
    /// Starts `threads − 1` threads; `None` where the plan has no step that they gain by sharing, or threads are short.
    pub(crate) fn new(plan: &Arc<Plan>, threads: usize) -> Option<Self> {
        let (steps, most) = plan.shared(threads)?;
        let rows = || (0..threads).map(|_| Mutex::new(vec![0; most])).collect();
        let input = plan.cells[plan.input].length;
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            threads,
            steps,
            input: Mutex::new(vec![0; input]),
            rows: [rows(), rows()],
            begun: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut team = Self { shared, others: Vec::new(), meetings: 0, allocated: [input + 2 * threads * most, 0] };
        for index in 1..threads {
            let shared = team.shared.clone();
            let memory = Memory::new(plan, 1);
            team.allocated[0] += memory.allocated();
            team.allocated[1] += memory.scratch.allocated();
            // A team that is dropped here ends the threads that were started.
            team.others.push(thread::Builder::new().spawn(move || shared.serve(index, memory)).ok()?);
        }
        Some(team)
    }

    /// Bytes allocated for codes of values, and for scratch, beside those of the caller's thread.
    pub(crate) fn allocated(&self) -> [usize; 2] {
        self.allocated
    }

    /// Computes one sample; `memory` is the caller's.
    pub(crate) fn compute(&mut self, memory: &mut Memory, input: &[i8]) {
        let shared = &*self.shared;
        lock(&shared.input).copy_from_slice(input);
        shared.begun.fetch_add(1, Ordering::Release);
        self.others.iter().for_each(|other| other.thread().unpark());
        let _alarm = Alarm(&shared.failed);
        let together = shared.steps(0, memory, CodesRef::Int8(input), &mut self.meetings);
        assert!(together, "a thread of the engine has failed");
        for step in &shared.plan.steps[shared.steps..] {
            compute(None, &shared.plan, memory, 1, step);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        for other in self.others.drain(..) {
            other.thread().unpark();
            // One that has failed has said so by its panic.
            let _ = other.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The life of a thread beside the caller's.
    fn serve(&self, index: usize, mut memory: Memory) {
        let _alarm = Alarm(&self.failed);
        let (mut done, mut meetings) = (0, 0);
        let mut input = vec![0; self.plan.cells[self.plan.input].length];
        loop {
            let mut turns = 0;
            while self.begun.load(Ordering::Acquire) == done {
                if self.ended.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire) {
                    return;
                }
                turns += 1;
                if turns < PATIENT {
                    spin_loop();
                } else if turns < AWAKE {
                    thread::yield_now();
                } else {
                    thread::park();
                }
            }
            done += 1;
            input.copy_from_slice(&lock(&self.input));
            if !self.steps(index, &mut memory, CodesRef::Int8(&input), &mut meetings) {
                return;
            }
        }
    }

    /// Takes all steps up to the last shared one, as thread `index`; whether no other thread has failed.
    fn steps(&self, index: usize, memory: &mut Memory, input: CodesRef, meetings: &mut usize) -> bool {
        let plan = &*self.plan;
        enter(plan, memory, 1, input);
        for step in &plan.steps[..self.steps] {
            match self.share(step) {
                Some(share) => {
                    self.compute_own_rows(index, memory, share, *meetings);
                    if !self.meet(meetings) {
                        return false;
                    }
                    self.take_rows_of_others(index, memory, share, *meetings);
                }
                None => compute(None, plan, memory, 1, step),
            }
        }
        true
    }

    /// A step's share, where the threads share it.
    fn share<'a>(&'a self, step: &'a Step) -> Option<Share<'a>> {
        let (StepKernel::Fast(kernel), Some(level)) = (&step.kernel, self.plan.level) else { return None };
        let [rows, length] = kernel.rows_worth_sharing().filter(|[rows, _]| *rows >= self.threads)?;
        Some(Share { step, kernel, level, rows, length })
    }

    /// The rows of a thread.
    fn own(&self, index: usize, rows: usize) -> Range<usize> {
        rows * index / self.threads..rows * (index + 1) / self.threads
    }

    /// Computes the rows of a thread and lays them out for the others.
    fn compute_own_rows(&self, index: usize, memory: &mut Memory, share: Share, meetings: usize) {
        let Share { step, kernel, level, rows, length } = share;
        let own = self.own(index, rows);
        let (CodesMut::Int8(y), others, scratch) = memory.write(&self.plan, step.output, 1) else {
            unreachable!("fast kernels give int8 codes");
        };
        kernel.compute_rows(level, scratch, own.clone(), others.int8(step.inputs[0]), y);
        lock(&self.rows[meetings % 2][index])[..own.len() * length].copy_from_slice(&y[own.start * length..own.end * length]);
    }

    /// Takes the rows that the other threads have laid out.
    fn take_rows_of_others(&self, index: usize, memory: &mut Memory, share: Share, meetings: usize) {
        let Share { step, rows, length, .. } = share;
        let (CodesMut::Int8(y), ..) = memory.write(&self.plan, step.output, 1) else {
            unreachable!("fast kernels give int8 codes");
        };
        for other in (0..self.threads).filter(|&other| other != index) {
            let theirs = self.own(other, rows);
            // The meeting was counted since the rows were laid out.
            let laid_out = lock(&self.rows[(meetings + 1) % 2][other]);
            y[theirs.start * length..theirs.end * length].copy_from_slice(&laid_out[..theirs.len() * length]);
        }
    }

    /// Waits until all threads have come to their next meeting; whether none has failed.
    fn meet(&self, meetings: &mut usize) -> bool {
        *meetings += 1;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut turns = 0;
        while self.arrived.load(Ordering::Acquire) < *meetings * self.threads {
            if self.failed.load(Ordering::Acquire) {
                return false;
            }
            turns += 1;
            if turns < PATIENT { spin_loop() } else { thread::yield_now() }
        }
        true
    }
}
