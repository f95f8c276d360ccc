"""What Python has on Unix and not on Windows, as far as a network program might use it."""

from __future__ import annotations

NAMES = {
    "os": frozenset(
        "EX_OK EX_USAGE F_LOCK O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK WEXITSTATUS WIFEXITED WNOHANG "
        "chown chroot environb eventfd fchdir fchown fork forkpty getegid getenvb geteuid getgid getgrouplist "
        "getgroups getloadavg getpgid getpgrp getpriority getrandom getsid getuid initgroups killpg lchown lockf "
        "memfd_create mkfifo mknod nice openpty pidfd_open pipe2 posix_fadvise posix_spawn posix_spawnp pread "
        "preadv pwrite pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile "
        "setegid seteuid setgid setgroups setpgid setpriority setsid setuid splice statvfs sync sysconf tcgetpgrp "
        "tcsetpgrp ttyname uname wait wait3 wait4 waitid writev".split()
    ),
    "socket": frozenset(
        "AF_NETLINK AF_PACKET AF_UNIX AF_VSOCK CMSG_LEN CMSG_SPACE IP_TRANSPARENT MSG_CMSG_CLOEXEC MSG_DONTWAIT "
        "MSG_EOR MSG_MORE MSG_NOSIGNAL SCM_CREDENTIALS SCM_RIGHTS SOCK_CLOEXEC SOCK_NONBLOCK SO_BINDTODEVICE "
        "SO_DOMAIN SO_INCOMING_CPU SO_MARK SO_PEERCRED SO_PRIORITY SO_PROTOCOL SO_REUSEPORT TCP_CONGESTION "
        "TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_LINGER2 TCP_NOTSENT_LOWAT TCP_QUICKACK TCP_USER_TIMEOUT recv_fds "
        "send_fds".split()
    ),
    "signal": frozenset(
        "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP SIGTTIN "
        "SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGWINCH SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm getitimer pause "
        "pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo".split()
    ),
    "select": frozenset("EPOLLET EPOLLHUP EPOLLIN EPOLLOUT EPOLLRDHUP PIPE_BUF epoll kevent kqueue poll".split()),
    "time": frozenset("CLOCK_MONOTONIC CLOCK_REALTIME clock_getres clock_gettime clock_settime tzset".split()),
    "errno": frozenset("ENONET ENOTBLK ERESTART EREMOTEIO".split()),
}
"""Names of modules, by module."""

SOCKET_METHODS = frozenset({"recvmsg", "recvmsg_into", "sendmsg"})

MODULES = frozenset("crypt fcntl grp posix pty pwd readline resource syslog termios tty".split())
