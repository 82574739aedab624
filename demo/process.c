/*
 * process.c
 *		The processes of a program: a parent, and children that never outlive it.
 *
 * However the parent ends, its children end: at exit it kills them by their ids, and if it is killed itself, the kernel
 * does. A worker may kill itself, which the parent answers with a new one in its place, or stop itself as a machine
 * that stalls does, until the part's own rule says that it goes on.
 */
#include "demo.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_CHILDREN	(MAX_WORKERS + 16)

/* a worker of the crew that runs */
typedef struct Member
{
	pid_t		pid;			/* 0: has ended */
	bool		stopped;
} Member;

static const char *progname = "demo";
static pid_t parent;
static pid_t children[MAX_CHILDREN];
static int	nchildren;
static volatile sig_atomic_t interrupted;

const char *
program_name(void)
{
	return progname;
}

/* Ends the process with a message; in the parent, what it started ends with it. */
void
fail(const char *format,...)
{
	va_list		args;

	fprintf(stderr, "%s: ", progname);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (getpid() != parent)
		_exit(2);
	exit(2);
}

static void
on_signal(int number)
{
	interrupted = number;
}

/* To be called first: makes this process the parent, whose children end with it, whatever ends it. */
void
begin_program(const char *name)
{
	struct sigaction action = {.sa_handler = on_signal};

	progname = name;
	parent = getpid();
	atexit(end_children);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

void
stop_if_interrupted(void)
{
	if (interrupted)
		exit(128 + interrupted);
}

/* Zeroed memory that children forked later share. */
void *
shared_memory(size_t size)
{
	void	   *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("could not map %zu bytes: %s", size, strerror(errno));
	return memory;
}

/* Forks; the child goes on with 0, the parent knows it as one to end. */
pid_t
fork_child(void)
{
	pid_t		pid;

	if (nchildren == MAX_CHILDREN)
		fail("too many processes");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		fail("could not fork: %s", strerror(errno));
	if (pid > 0)
	{
		children[nchildren++] = pid;
		return pid;
	}
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)	/* it ended before that call */
		_exit(2);
	return 0;
}

/* Ends the processes that we started and that have not ended yet, by their ids. */
void
end_children(void)
{
	if (getpid() != parent)
		return;
	for (int i = 0; i < nchildren; i++)
		kill(children[i], SIGKILL);
	for (int i = 0; i < nchildren; i++)
		waitpid(children[i], NULL, 0);
	nchildren = 0;
}

static void
start_worker(const Crew *crew, Member *members, int number)
{
	members[number] = (Member) {.pid = fork_child()};
	if (members[number].pid == 0)
	{
		crew->work(number, crew->arg);
		_exit(0);
	}
}

/* Takes note of a child that has ended. */
static void
bury(Crew *crew, Member *members, pid_t pid, int status)
{
	for (int i = 0; i < nchildren; i++)
	{
		if (children[i] == pid)
			children[i] = children[--nchildren];
	}
	for (int i = 0; i < crew->workers; i++)
	{
		if (members[i].pid != pid)
			continue;
		members[i].pid = 0;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		{
			crew->killed++;
			start_worker(crew, members, i);
		}
		else if (status != 0 && !interrupted)
			fail("worker %d has died, wait status %d", i, status);
		return;
	}
	if (!interrupted)
		fail("a process that the workers need has died");
}

/* Looks after the crew once; how many of it are left. */
static int
look_after(Crew *crew, Member *members)
{
	int			running = 0;
	int			status;
	pid_t		pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0)
	{
		if (!WIFSTOPPED(status))
		{
			bury(crew, members, pid, status);
			continue;
		}
		for (int i = 0; i < crew->workers; i++)
		{
			if (members[i].pid != pid)
				continue;
			members[i].stopped = true;
			crew->stalled++;
		}
	}
	for (int i = 0; i < crew->workers; i++)
	{
		running += members[i].pid != 0;
		if (members[i].stopped && members[i].pid != 0 && crew->wakes != NULL && crew->wakes(i, crew->arg))
		{
			members[i].stopped = false;
			kill(members[i].pid, SIGCONT);
		}
	}
	return running;
}

/* Runs the workers of a crew until each has returned. */
void
run_crew(Crew *crew)
{
	Member		members[MAX_WORKERS];

	for (int i = 0; i < crew->workers; i++)
		start_worker(crew, members, i);
	while (look_after(crew, members) > 0)
	{
		stop_if_interrupted();
		if (crew->watch != NULL)
			crew->watch(crew->arg);
		sleep_seconds(0.01);
	}
	stop_if_interrupted();
}
