"""What a program in a box finds round it that could be a way out: one probe for every runtime that has boxes.

What is to be found differs by runtime, and is written down whole where it is tested.
"""

PROBE = """
grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t' ' '
echo "uid $(id -u) gid $(id -g) groups $(id -G) $(id -un) $(hostname) umask $(umask)"
echo "sys $(ls -A /sys /run/host 2>/dev/null | tr '\\n' ' ')"
echo "cgroup $(cut -d: -f3 /proc/self/cgroup | sort -u | tr '\\n' ' ')"
echo "dev $(ls -A /dev | tr '\\n' ' ')"
printf 'processes '; for p in /proc/[0-9]*; do read c < $p/comm; printf '%s ' "$c"; done; echo
echo "writable $(for d in / /usr /etc /opt /var /run /sys /proc/sys/kernel /proc/sysrq-trigger /agents \
  /agents/alice/config /workspace /run/hive /state /claude /tmp /var/tmp /dev /dev/shm /nix/store; do
  ( : > $d/.probe ) 2>/dev/null && printf '%s ' $d; [ -f $d ] && ( : > $d ) 2>/dev/null && printf '%s ' $d; done)"
echo "mounts $(cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(proc|sys|dev|run/host)(/|$)' | sort -u | tr '\\n' ' ')"
echo "nodes $(find / /run /run/hive /run/host /state /claude /tmp -xdev \
  \\( -type b -o -type c -o -type s -o -type p \\) 2>/dev/null | sort -u | tr '\\n' ' ')"
echo "passwd $(cut -d: -f1 /etc/passwd | tr '\\n' ' ')"
echo "shadow $(ls -d /etc/shadow /etc/sudoers 2>/dev/null; for d in /root /home; do cd $d && ls -A; done 2>/dev/null)"
"""

POWERLESS = """\
CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 0000000000000000
CapAmb: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
"""
"""How that begins in every box: no capability, none to be had, and a call filter."""


def lines(said: str, *, without: str = "") -> list[str]:
    """What the probe said, without blanks at the ends and without the line of this name."""
    found = [line.rstrip() for line in said.splitlines()]
    return [line for line in found if not without or line.split(" ")[0] != without]
