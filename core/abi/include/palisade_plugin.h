/* The table of functions of a palisade plugin, for C11 and C++17. Made from core/abi/src/c/table.rs: do not change it
 * by hand. docs/plugins-c.md has a whole plugin.
 *
 * A plugin is a shared object that needs nothing but the C library. It has a manifest (PALISADE_MANIFEST) and exports
 * one constant, `const struct palisade_plugin_table palisade_plugin`.
 *
 * Each struct but palisade_text and palisade_origin begins with its size, which its maker sets to sizeof. Who reads one
 * takes what both sides know. Set all other members to zero first, as a designated initializer does. */

#ifndef PALISADE_PLUGIN_H
#define PALISADE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>


#if defined(__cplusplus)
#define PALISADE_TEXT(literal) (palisade_text{(literal), sizeof(literal) - 1})
#else
/* A text from a string literal. */
#define PALISADE_TEXT(literal) ((struct palisade_text){(literal), sizeof(literal) - 1})
#endif

/* The manifest, in RON, as a string literal. palisade reads it from the file and runs nothing for it. Once, outside of
 * any function, without a semicolon behind it. */
#define PALISADE_MANIFEST(literal)                                                                                     \
    __attribute__((section(".palisade.manifest"), used)) static const char palisade_manifest[] = literal;

/* The same, written as it is: PALISADE_MANIFEST_RON((name: "x", version: "1", ...)). Comments are left out, and a raw
 * string of RON cannot be written here. */
#define PALISADE_MANIFEST_RON(...) PALISADE_MANIFEST(#__VA_ARGS__)

struct palisade_host;
struct palisade_step;


// The version of the seam that this header is of. A minor adds, a major breaks.
#define PALISADE_SEAM_MAJOR 1

// See PALISADE_SEAM_MAJOR.
#define PALISADE_SEAM_MINOR 1

// An error's kind: the policy asks for something that makes no sense.
#define PALISADE_POLICY 1

// An error's kind: the host cannot give what the policy asks for.
#define PALISADE_HOST 2

// An error's kind: a step failed while it was done, verified or undone.
#define PALISADE_SETUP 3

// An error's kind: the plugin itself is at fault.
#define PALISADE_PLUGIN 4

// A finding's support: all of it is there.
#define PALISADE_FULL 0

// A finding's support: some of it is there; the detail says what is missing.
#define PALISADE_PARTIAL 1

// A finding's support: none of it is there.
#define PALISADE_MISSING 2

// An attempt's severity.
#define PALISADE_CRITICAL 0

// An attempt's severity.
#define PALISADE_HIGH 1

// An attempt's severity.
#define PALISADE_MEDIUM 2

// An attempt's severity.
#define PALISADE_LOW 3

// An attempt's severity.
#define PALISADE_INFO 4

// A text: UTF-8, as many bytes as it says, no NUL needed at the end. Who hands it over keeps it; whoever receives it
// copies what is to stay. All zero is the empty text.
struct palisade_text {
    // Its first byte; may be NULL where the length is 0.
    const char *data;
    // Its length in bytes.
    size_t length;
};

// A place in the policy. Only palisade makes them: palisade_host.origin gives one, and errors and steps hand it back.
struct palisade_origin {
    // The source's number.
    uint32_t source;
    // First byte.
    uint32_t start;
    // One past the last byte.
    uint32_t end;
};

// An error that teaches: what could not be done, how, and what the reader can do about it.
struct palisade_error {
    // sizeof(struct palisade_error).
    size_t size;
    // PALISADE_POLICY, PALISADE_HOST, PALISADE_SETUP or PALISADE_PLUGIN; it decides the exit code.
    uint32_t kind;
    // The errno of the call; 0 where there is none.
    int32_t number;
    // What was to be done and could not be, in words.
    struct palisade_text message;
    // The system call as written; empty where none was made.
    struct palisade_text call;
    // What the reader can do about it; empty where palisade's own table of errnos may answer.
    struct palisade_text help;
    // The place in the policy that is to blame, or NULL for the step's own.
    const struct palisade_origin *origin;
};

// What the host has of one thing that the plugin needs. `palisade doctor` prints it.
struct palisade_finding {
    // sizeof(struct palisade_finding).
    size_t size;
    // PALISADE_FULL, PALISADE_PARTIAL or PALISADE_MISSING.
    uint32_t support;
    // The feature, in the field's words.
    struct palisade_text feature;
    // What was seen: a version, a path, an errno.
    struct palisade_text detail;
    // What to do to get it; empty where nothing is to be done.
    struct palisade_text remedy;
};

// What a run that is over left on the host.
struct palisade_left {
    // sizeof(struct palisade_left).
    size_t size;
    // Not 0 where it is gone now.
    uint32_t removed;
    // What it is and where, in one line.
    struct palisade_text what;
    // Why it could not be removed; empty where it was, or was not to be.
    struct palisade_text why;
};

// A limit that the workload ran into.
struct palisade_hit {
    // sizeof(struct palisade_hit).
    size_t size;
    // Not 0 where it is what ended the workload.
    uint32_t ended_it;
    // The limit, by its name.
    struct palisade_text limit;
    // What was seen of it, in words.
    struct palisade_text words;
    // The policy line that set it, or NULL.
    const struct palisade_origin *origin;
};

// A command that tries something that the plugin claims to stop, for `palisade probe`. It prints the word {token} of its
// arguments only if that worked.
struct palisade_attempt {
    // sizeof(struct palisade_attempt).
    size_t size;
    // PALISADE_CRITICAL to PALISADE_INFO: how bad it is if it works.
    uint32_t severity;
    // Its name: lower-case letters, digits and `-`.
    struct palisade_text id;
    // What it tries, in words.
    struct palisade_text attempts;
    // What else may stop it.
    struct palisade_text layers;
    // What it needs, to make sense at all; empty for nothing.
    struct palisade_text needs;
    // Why it does no harm where it works.
    struct palisade_text harmless;
    // The command and its arguments.
    const struct palisade_text *argv;
    // How many they are.
    size_t argc;
};

// palisade, as it stands to one call of the plugin. It and every text that it gives are good until the entry returns; what
// it is given is copied. A function that makes no sense in an entry makes that entry fail.
struct palisade_host {
    // sizeof(struct palisade_host) of this palisade: compare it before a function is called that is newer than the first
    // version of the table.
    size_t size;
    // palisade's own.
    void *call;
    // Says why the entry fails; it then returns anything but 0. The first error counts.
    void (*fail)(const struct palisade_host *host, const struct palisade_error *error);
    // Gives a fact about the host or the launch by name, such as uid, kernel_major, run_id: 1, or 0 where there is none.
    // In probe, collect, configure and plan.
    int32_t (*fact)(const struct palisade_host *host, struct palisade_text name, struct palisade_text *value);
    // Gives a value of the merged section by its dotted path, an item of a list by its number: rules.0.path. A string
    // comes without quotes and with its variables expanded, all else as it is written. 1, or 0 where the policy does not
    // set it. In configure.
    int32_t (*value)(const struct palisade_host *host, struct palisade_text path, struct palisade_text *value);
    // Counts the items of a list or the keys of a map; 0 where the policy does not set it. In configure.
    size_t (*count)(const struct palisade_host *host, struct palisade_text path);
    // Gives a key of a map by its number, in the order of the alphabet: 1, or 0 beyond the last. In configure.
    int32_t (*key)(const struct palisade_host *host, struct palisade_text path, size_t index, struct palisade_text *key);
    // Gives the place where something was written in the policy: 1, or 0 where the policy does not set it. In configure.
    int32_t (*origin)(const struct palisade_host *host, struct palisade_text path, struct palisade_origin *origin);
    // Tells a finding. In probe.
    void (*finding)(const struct palisade_host *host, const struct palisade_finding *finding);
    // Tells what was left. In collect.
    void (*left)(const struct palisade_host *host, const struct palisade_left *left);
    // Adds a step. In plan.
    void (*step)(const struct palisade_host *host, const struct palisade_step *step);
    // Names a descriptor to be watched while the workload runs. In watch.
    void (*descriptor)(const struct palisade_host *host, int32_t descriptor);
    // Tells a figure; its name ends in its unit, such as _bytes or _us. In sample and finish.
    void (*figure)(const struct palisade_host *host, struct palisade_text name, uint64_t figure);
    // Tells a limit that was hit. In finish.
    void (*hit)(const struct palisade_host *host, const struct palisade_hit *hit);
    // Adds an attempt. In attempts.
    void (*attempt)(const struct palisade_host *host, const struct palisade_attempt *attempt);
    // Says what shows that the step is in force, for the report. In a step's apply, verify and witness.
    void (*evidence)(const struct palisade_host *host, struct palisade_text words);
    // Gives a number by name: pid, the process that is being set up, and init_pid, the one that was cloned, as the host
    // numbers them, from attach on. 1, or 0 where there is none yet. In a step.
    int32_t (*number)(const struct palisade_host *host, struct palisade_text name, int64_t *number);
    // Offers an open directory of cgroup v2 for the process to be born in; it stays open. In apply of stage prepare.
    void (*offer_cgroup)(const struct palisade_host *host, int32_t descriptor);
    // Hands an open descriptor over to the plugin's `take` on the host; it stays open here until execve. In apply of
    // stages drop and seal.
    void (*hand_over)(const struct palisade_host *host, int32_t descriptor);
};

// Does, verifies, witnesses or undoes a step. 0 for good; else palisade_host.fail was called before.
typedef int32_t (*palisade_act)(const struct palisade_host *host, void *data);

// One thing to do. Either `ready` says what, and palisade does it, or `apply` does it.
struct palisade_step {
    // sizeof(struct palisade_step).
    size_t size;
    // The stage: prepare, clone, attach, build, drop, seal, watch or finish.
    struct palisade_text stage;
    // What it does, in one line.
    struct palisade_text words;
    // Why it is done; may be empty.
    struct palisade_text why;
    // What becomes of the launch when it fails: require (or empty), degrade, off.
    struct palisade_text demand;
    // The policy line that it comes from, or NULL.
    const struct palisade_origin *origin;
    // Names of plugins whose steps come first in this stage.
    const struct palisade_text *after;
    // How many they are.
    size_t after_count;
    // CLONE_NEW* flags for the process's creation; stage clone only.
    uint64_t clone_flags;
    // Not 0 where an attach step may run while the child builds.
    uint32_t concurrent;
    // A ready-made step as text, such as Hostname(name: "box"); empty where `apply` does it.
    struct palisade_text ready;
    // Does it. NULL for a ready-made step, and in stage clone.
    palisade_act apply;
    // Reads back from the host what the kernel believes; NULL where the host can read nothing.
    palisade_act verify;
    // The same from inside the process, before Seal; NULL where nothing is to be read there.
    palisade_act witness;
    // Takes it back; prepare and attach only, also after an `apply` that failed half-way. NULL for nothing.
    palisade_act undo;
    // Handed to the four above; it lives until `release`.
    void *data;
};

// The plugin: exported under the name palisade_plugin. Each entry gives 0, or anything else after palisade_host.fail.
// No exception and no longjmp may leave an entry. The pointer `isolator` is what configure made.
struct palisade_plugin_table {
    // sizeof(struct palisade_plugin_table).
    size_t size;
    // PALISADE_SEAM_MAJOR.
    uint32_t seam_major;
    // PALISADE_SEAM_MINOR.
    uint32_t seam_minor;
    // Says with palisade_host.finding what this host has of what the plugin needs. NULL for nothing.
    int32_t (*probe)(const struct palisade_host *host);
    // Finds with palisade_host.left what runs that were killed left, and removes it where `remove` is not 0. What a run
    // that goes on needs must not be among it. NULL for nothing.
    int32_t (*collect)(const struct palisade_host *host, int32_t remove);
    // Checks the section and makes what the other entries get as `isolator`. Touches nothing. Needed.
    int32_t (*configure)(const struct palisade_host *host, void **isolator);
    // Makes the steps with palisade_host.step. Touches nothing. Needed.
    int32_t (*plan)(const struct palisade_host *host, void *isolator);
    // Frees what configure made, once nothing asks for it any more. NULL for nothing.
    void (*release)(void *isolator);
    // Names with palisade_host.descriptor what to watch while the workload runs; asked again after each `ready`. Needs
    // `ready`. NULL for nothing.
    int32_t (*watch)(const struct palisade_host *host, void *isolator);
    // Deals with one of them, which can be read now. An error ends the launch. Needs `watch`.
    int32_t (*ready)(const struct palisade_host *host, void *isolator, int32_t descriptor);
    // Tells figures so far, while the workload runs. NULL for nothing.
    int32_t (*sample)(const struct palisade_host *host, void *isolator);
    // Tells figures and hits when the workload has ended, before anything is undone. NULL for nothing.
    int32_t (*finish)(const struct palisade_host *host, void *isolator);
    // Adds attempts for `palisade probe`. NULL for nothing.
    int32_t (*attempts)(const struct palisade_host *host, void *isolator);
    // Takes a descriptor that a step handed over; it is the plugin's to close. NULL where no step does.
    int32_t (*take)(const struct palisade_host *host, void *isolator, int32_t descriptor);
};


#ifdef __cplusplus
extern "C" {
#endif
/* The plugin defines it. */
extern const struct palisade_plugin_table palisade_plugin __attribute__((visibility("default")));
#ifdef __cplusplus
}
#endif

/* A text from a string that ends in a NUL; NULL is the empty one. */
static inline struct palisade_text palisade_text_of(const char *string) {
    struct palisade_text text = {string, string == NULL ? 0 : strlen(string)};
    return text;
}

/* Says why an entry fails, and gives what it returns then. Each string ends in a NUL or is NULL; `number` is an errno or
 * 0; `origin` may be NULL. */
static inline int32_t palisade_failed(const struct palisade_host *host, uint32_t kind, const char *message,
                                      const char *call, int32_t number, const char *help,
                                      const struct palisade_origin *origin) {
    struct palisade_error error = {sizeof error, kind, number, {NULL, 0}, {NULL, 0}, {NULL, 0}, origin};
    error.message = palisade_text_of(message);
    error.call = palisade_text_of(call);
    error.help = palisade_text_of(help);
    host->fail(host, &error);
    return -1;
}

#endif
