"""Words that systemd and Debian have a meaning for already: names, and directives of a service."""

from typing import Final

NAMES: Final = frozenset(
    # Users and groups of a Debian system: systemd takes an existing one in place of a dynamic user, systemd.exec(5).
    "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody nogroup adm tty disk "
    "kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff users "
    "localhost input kvm render sgx messagebus polkitd sshd ntp postfix postgres mysql redis nginx haproxy "
    # Directories below /run and /var/lib that are not for an application.
    "private systemd dbus lock log udev user apt dpkg misc pam python ucf sudo initramfs credentials shm network "
    # Units of systemd that a unit of ours would take the place of: NAME@.service, NAME.target.
    "getty autovt serial-getty container-getty user-runtime-dir basic bluetooth boot-complete cryptsetup default "
    "emergency exit final first-boot-complete getty-pre graphical halt hibernate kexec local-fs multi-user "
    "network-online network-pre nss-lookup paths poweroff printer reboot remote-fs rescue rpcbind shutdown sigpwr "
    "sleep slices smartcard sockets sound suspend swap sysinit system-update time-set time-sync timers umount "
    "usb-gadget ssh ifup".split()
)
"""What a deployment cannot be called."""

OWNED: Final = {
    "ExecStart": "app, python and arguments",
    "ExecReload": "app, python and arguments: the runtime puts a new process in the place of the old",
    "Type": "server: the runtime speaks sd_notify(3)",
    "NotifyAccess": "server: only the main process notifies",
    "User": "service.user",
    "Group": "service.group",
    "DynamicUser": "service.dynamic_user",
    "WorkingDirectory": "directory",
    "Environment": "service.environment",
    "EnvironmentFile": "service.environment_files",
    "LoadCredential": "service.credentials",
    "MemoryMax": "service.memory_max",
    "CPUQuota": "service.cpu_quota",
    "TasksMax": "service.tasks_max",
    "LimitNOFILE": "service.open_files",
    "Restart": "service.restart",
    "TimeoutStartSec": "timeouts.start",
    "TimeoutStopSec": "timeouts.stop",
    "TimeoutSec": "timeouts",
    "WatchdogSec": "timeouts.watchdog",
    "Sockets": "listen",
    "NonBlocking": "listen",
    "KillMode": "timeouts: the server gets SIGTERM and the time to drain, its own processes are left to it",
    "KillSignal": "timeouts: the runtime drains on SIGTERM",
    "RuntimeDirectory": "sandbox.writable, or listen.directory for sockets; the service has one, for orders",
    "RuntimeDirectoryMode": "sandbox.writable: only the service itself may give its instances orders",
    "RuntimeDirectoryPreserve": "sandbox.writable: what a dead process took orders on must go with it",
    "OOMPolicy": "service.memory_max: in a reload, one of two processes may be killed",
    "PrivatePIDs": "server: a reload hands over to a process by its number",
    "FileDescriptorStoreMax": "server: the runtime keeps its own",
    "ReadWritePaths": "sandbox.writable",
    "ReadWriteDirectories": "sandbox.writable",
    "PrivateNetwork": "sandbox.network",
    "IPAddressAllow": "sandbox.addresses",
    "IPAddressDeny": "sandbox.addresses",
    "ProtectHome": "sandbox.home",
    "PrivateTmp": "sandbox.shared_tmp",
    "MemoryDenyWriteExecute": "sandbox.executable_memory",
    "PrivateUsers": "sandbox.host_users",
    "DeviceAllow": "sandbox.devices",
    "SupplementaryGroups": "service.groups",
}
"""Directives that are written from other keys of the deployment file, and from which."""

SINCE: Final = {
    "OpenFile": 253, "LogFilterPatterns": 253, "MemoryZSwapMax": 253, "RestartMode": 254, "RestartSteps": 254,
    "RestartMaxDelaySec": 254, "FileDescriptorStorePreserve": 254, "MemoryPressureWatch": 254,
    "MemoryPressureThresholdSec": 254, "ImportCredential": 254, "RootEphemeral": 254, "MemoryKSM": 254,
    "DelegateSubgroup": 254, "SurviveFinalKillSignal": 255, "NFTSet": 255, "CoredumpReceive": 255,
    "SetLoginEnvironment": 255, "MemoryZSwapWriteback": 256, "PrivatePIDs": 257, "BindLogSockets": 257,
    "PrivateBPF": 258, "DelegateNamespaces": 258, "StateDirectoryQuota": 258, "CacheDirectoryQuota": 258,
    "LogsDirectoryQuota": 258, "ExecReloadPost": 259, "UserNamespacePath": 259, "RefreshOnReload": 260,
    "RootMStack": 260, "MemoryTHP": 260, "BindNetworkInterface": 260, "RestartRandomizedDelaySec": 262,
}  # fmt: skip
"""First systemd that knows a directive; those that are not here are known to the oldest supported, 252, or to none."""
