//! What the sensor gives up before it meets an attacker: files but its own, outbound connections, other programs,
//! privileges. What the kernel does not offer is left out, and told.
//!
//! What holds then: no other program can be run (seccomp); outside its folder nothing can be written, and nothing read
//! but what names and certificates need (landlock, Linux 5.13); connections go out only to the ports of the deception
//! service (landlock, Linux 6.7: it knows ports, not addresses). Datagrams cannot be told apart by the kernel from
//! answers to datagrams; nothing in here sends one that is no answer.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contained {
    /// Files and outbound connections: `full`, `partial` or `no`.
    pub landlock: &'static str,
    /// System calls.
    pub seccomp: bool,
    /// No privilege but binding low ports.
    pub privileges_dropped: bool,
}

impl fmt::Display for Contained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |good: bool| if good { "yes" } else { "no" };
        write!(
            f,
            "landlock {}, seccomp {}, privileges dropped {}",
            self.landlock,
            yes(self.seccomp),
            yes(self.privileges_dropped)
        )
    }
}

/// Gives it up, for good. To be called while the process has one thread. `folder` stays writable, `ports` are where
/// connections may go, and `readable` are folders that are read later: those of certificates.
#[cfg(target_os = "linux")]
pub fn contain(folder: &Path, ports: &[u16], readable: &[PathBuf]) -> std::io::Result<Contained> {
    // As many connections as the system lets us have.
    let _ = linux::raise_files();
    let privileges_dropped = linux::drop_privileges();
    rustix::thread::set_no_new_privs(true)?;
    let landlock = linux::landlock(folder, ports, readable).unwrap_or("no");
    let seccomp = linux::seccomp().is_ok();
    Ok(Contained { landlock, seccomp, privileges_dropped })
}

/// This system offers none of it.
#[cfg(not(target_os = "linux"))]
pub fn contain(_folder: &Path, _ports: &[u16], _readable: &[PathBuf]) -> std::io::Result<Contained> {
    Ok(Contained { landlock: "no", ..Contained::default() })
}

/// What the kernel of this machine offers of it; nothing is given up by asking.
#[cfg(target_os = "linux")]
pub fn offered() -> Contained {
    let seccomp = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    Contained { landlock: linux::landlock_offered(), seccomp, privileges_dropped: true }
}

/// This system offers none of it.
#[cfg(not(target_os = "linux"))]
pub fn offered() -> Contained {
    Contained { landlock: "no", ..Contained::default() }
}

/// Ends this process when its parent ends, however that happens.
#[cfg(target_os = "linux")]
pub fn end_with_parent() -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Only the end of standard input tells of it here.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent() -> std::io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
    };
    use rustix::{
        process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
        thread::{CapabilitySet, CapabilitySets, set_capabilities},
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };

    /// What names, times and certificates need.
    const READABLE: &[&str] = &[
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/gai.conf",
        "/etc/services",
        "/etc/localtime",
        "/etc/ld.so.cache",
        "/etc/ssl",
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/share/zoneinfo",
        "/sys/fs/cgroup",
        "/dev/urandom",
    ];

    pub(super) fn raise_files() -> rustix::io::Result<()> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
    }

    /// Who has none needs not drop any.
    pub(super) fn drop_privileges() -> bool {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let bind = CapabilitySet::NET_BIND_SERVICE;
        let sets = |kept| CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets(bind)).or_else(|_| set_capabilities(None, sets(CapabilitySet::empty()))).is_ok()
    }

    pub(super) fn landlock(folder: &Path, ports: &[u16], readable: &[PathBuf]) -> Result<&'static str, RulesetError> {
        let abi = ABI::V6;
        let all = AccessFs::from_all(abi);
        let own: BitFlags<AccessFs> = all & !BitFlags::from(AccessFs::Execute);
        let read = AccessFs::from_read(abi) & !BitFlags::from(AccessFs::Execute);
        let status = Ruleset::default()
            .handle_access(all)?
            .handle_access(AccessNet::ConnectTcp)?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules([folder], own))?
            .add_rules(path_beneath_rules(READABLE, read))?
            .add_rules(path_beneath_rules(readable, read))?
            .add_rules(ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))?
            .restrict_self()?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => "full",
            RulesetStatus::PartiallyEnforced => "partial",
            RulesetStatus::NotEnforced => "no",
        })
    }

    /// A set of rules that is made and not put into force.
    pub(super) fn landlock_offered() -> &'static str {
        let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let files = || hard().handle_access(AccessFs::from_all(ABI::V1))?.create();
        let connections = || hard().handle_access(AccessNet::ConnectTcp)?.create();
        match (files().is_ok(), connections().is_ok()) {
            (true, true) => "full",
            (true, false) => "partial",
            (false, _) => "no",
        }
    }

    /// All else is refused as if it were not permitted.
    const CALLS: &[i64] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_pipe2,
        libc::SYS_ppoll,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_gettimeofday,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmmsg,
        libc::SYS_shutdown,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_fcntl,
        libc::SYS_flock,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_ftruncate,
        libc::SYS_getdents64,
        libc::SYS_getcwd,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_openat,
        libc::SYS_readlinkat,
        libc::SYS_fstatfs,
        libc::SYS_prlimit64,
        libc::SYS_getrusage,
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_get_robust_list,
        libc::SYS_rseq,
        libc::SYS_set_tid_address,
        libc::SYS_restart_syscall,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_eventfd2,
        libc::SYS_getrandom,
        libc::SYS_membarrier,
        // The end of this very process.
        libc::SYS_tgkill,
        libc::SYS_prctl,
        libc::SYS_getcpu,
        libc::SYS_get_mempolicy,
        libc::SYS_mbind,
    ];

    /// The names that only this architecture still has.
    #[cfg(target_arch = "x86_64")]
    const OLD_CALLS: &[i64] = &[
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_pipe,
        libc::SYS_poll,
        libc::SYS_select,
        libc::SYS_dup2,
        libc::SYS_getdents,
        libc::SYS_rename,
        libc::SYS_mkdir,
        libc::SYS_unlink,
        libc::SYS_readlink,
        libc::SYS_getrlimit,
        libc::SYS_arch_prctl,
        libc::SYS_time,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_create,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const OLD_CALLS: &[i64] = &[];

    pub(super) fn seccomp() -> Result<(), Box<dyn std::error::Error>> {
        let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
            CALLS.iter().chain(OLD_CALLS).map(|call| (*call, Vec::new())).collect();
        rules.insert(libc::SYS_socket, sockets()?);
        let mut terminal = Vec::new();
        for request in [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ] {
            #[allow(clippy::unnecessary_cast, reason = "of another type in musl")]
            terminal.push(SeccompRule::new(vec![equal(1, request as u64)?])?);
        }
        rules.insert(libc::SYS_ioctl, terminal);
        let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
        let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter_all_threads(&program)?;
        Ok(())
    }

    /// TCP, UDP, sockets of this machine, and the list of its addresses; no raw ones.
    fn sockets() -> Result<Vec<SeccompRule>, Box<dyn std::error::Error>> {
        let mut rules = Vec::new();
        for domain in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                let kind = SeccompCondition::new(
                    1,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(0xf),
                    u64::try_from(kind)?,
                )?;
                rules.push(SeccompRule::new(vec![equal(0, u64::try_from(domain)?)?, kind])?);
            }
        }
        let (netlink, route) = (u64::try_from(libc::AF_NETLINK)?, u64::try_from(libc::NETLINK_ROUTE)?);
        rules.push(SeccompRule::new(vec![equal(0, netlink)?, equal(2, route)?])?);
        Ok(rules)
    }

    fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    }
}
