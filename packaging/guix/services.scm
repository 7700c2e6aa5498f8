;;; Kapla under the Shepherd: a service type for a system of Guix, and one for a home of it; and on a
;;; system one for a proxy of substitutes, and one for a seed, which gives away what is in the store.
;;;
;;; The daemon runs as a user of its own and is given its socket by the Shepherd, so that who connects
;;; while it is restarted waits. docs/install.md shows how a configuration uses this file.

(define-module (kapla services)
  #:use-module (gnu home services)
  #:use-module (gnu home services shepherd)
  #:use-module (gnu packages admin)
  #:use-module (gnu services)
  #:use-module (gnu services configuration)
  #:use-module (gnu services shepherd)
  #:use-module (gnu system shadow)
  #:use-module (guix gexp)
  #:use-module (guix packages)
  #:use-module (srfi srfi-1)
  #:export (kapla-configuration
            kapla-configuration?
            kapla-service-type
            kapla-proxy-configuration
            kapla-proxy-configuration?
            kapla-proxy-service-type
            kapla-seed-configuration
            kapla-seed-configuration?
            kapla-seed-service-type
            home-kapla-service-type))

(define-configuration/no-serialization kapla-configuration
  (package
    (package)
    "The package that has @command{kaplad}.")
  (config-file
   (file-like (plain-file "kapla.toml" "\
store = \"/var/lib/kapla/blocks.sqlite\"
listen = [\"coap+unix:///run/kapla/eris.sock\"]
"))
   "The settings of the daemon.  A listener at @file{/run/kapla/eris.sock} has to be among them,
without mode and group: the Shepherd lets everybody use a socket who may enter its directory, and
that is for the group @code{kapla}."))

;; One object, as two services have it.
(define %kapla-group
  (user-group (name "kapla") (system? #t)))

(define %kapla-accounts
  (list %kapla-group
        (user-account
         (name "kapla")
         (group "kapla")
         (system? #t)
         (comment "Kapla, ERIS blocks")
         (home-directory "/var/lib/kapla")
         (shell (file-append shadow "/sbin/nologin")))))

(define (kapla-activation config)
  #~(begin
      (use-modules (guix build utils))
      (let ((user (getpwnam "kapla"))
            (directory "/var/lib/kapla"))
        (mkdir-p directory)
        (chown directory (passwd:uid user) (passwd:gid user))
        (chmod directory #o700))
      ;; The usual place, where programs look.
      (unless (false-if-exception (lstat "/run/eris.sock"))
        (symlink "/run/kapla/eris.sock" "/run/eris.sock"))))

(define (kapla-shepherd-service config)
  (let ((kaplad (file-append (kapla-configuration-package config) "/bin/kaplad"))
        (config-file (kapla-configuration-config-file config)))
    (list
     (shepherd-service
      (provision '(kaplad))
      (requirement '(user-processes))
      (documentation "Keep ERIS blocks, and serve them.")
      (start
       #~(make-systemd-constructor
          (list #$kaplad "--config" #$config-file)
          (list (endpoint (make-socket-address AF_UNIX "/run/kapla/eris.sock")
                          #:name "eris"
                          #:socket-directory-permissions #o750
                          #:socket-owner (passwd:uid (getpwnam "kapla"))
                          #:socket-group (group:gid (getgrnam "kapla"))))
          #:lazy-start? #f
          #:user "kapla"
          #:group "kapla"
          #:environment-variables
          '("HOME=/var/lib/kapla" "STATE_DIRECTORY=/var/lib/kapla")
          #:log-file "/var/log/kaplad.log"))
      (stop #~(make-systemd-destructor))))))

(define kapla-service-type
  (service-type
   (name 'kapla)
   (extensions
    (list (service-extension account-service-type (const %kapla-accounts))
          (service-extension activation-service-type kapla-activation)
          (service-extension shepherd-root-service-type kapla-shepherd-service)
          (service-extension profile-service-type
                             (compose list kapla-configuration-package))))
   (description "Run @command{kaplad} as a daemon for the whole machine.")))

(define-configuration/no-serialization kapla-proxy-configuration
  (package
    (package)
    "The package that has @command{kapla}.")
  (upstream
   (list-of-strings '("https://bordeaux.guix.gnu.org" "https://ci.guix.gnu.org"))
   "The URLs of the servers to ask, all at once.")
  (extra-options
   (list-of-strings '())
   "More options of @command{kapla proxy}, as @code{\"--listen=0.0.0.0\"}."))

;; A user for one service, who is in the group that the daemon's socket is for.
(define (accounts-of name comment)
  (list %kapla-group
        (user-group (name name) (system? #t))
        (user-account
         (name name)
         (group name)
         (supplementary-groups '("kapla"))
         (system? #t)
         (comment comment)
         (home-directory "/var/empty")
         (create-home-directory? #f)
         (shell (file-append shadow "/sbin/nologin")))))

(define (upstream-options servers)
  (append-map (lambda (url) (list "--upstream" url)) servers))

;; Started as root it reads which keys are authorized, which is for root alone, and then becomes its
;; user.
(define (kapla-proxy-shepherd-service config)
  (let ((kapla (file-append (kapla-proxy-configuration-package config) "/bin/kapla"))
        (servers (upstream-options (kapla-proxy-configuration-upstream config)))
        (options (kapla-proxy-configuration-extra-options config)))
    (list
     (shepherd-service
      (provision '(kapla-proxy))
      (requirement '(user-processes networking))
      (documentation "Pass on substitutes, out of blocks where they are.")
      (start
       #~(make-forkexec-constructor
          (list #$kapla "proxy" "--user" "kapla-proxy" #$@servers #$@options)
          #:log-file "/var/log/kapla-proxy.log"))
      (stop #~(make-kill-destructor))))))

(define kapla-proxy-service-type
  (service-type
   (name 'kapla-proxy)
   (extensions
    (list (service-extension account-service-type
                             (const (accounts-of "kapla-proxy" "Kapla, proxy of substitutes")))
          (service-extension shepherd-root-service-type kapla-proxy-shepherd-service)))
   (description "Run @command{kapla proxy}, a substitute server of this machine that passes on the
substitutes of others.")))

(define-configuration/no-serialization kapla-seed-configuration
  (package
    (package)
    "The package that has @command{kapla}.")
  (upstream
   (list-of-strings '())
   "The URLs of servers to ask, once, about each item that Kapla did not fetch: what they have is given
away.  Where there are none, only what was fetched is.")
  (extra-options
   (list-of-strings '())
   "More options of @command{kapla seed}, as @code{\"--pin\"}."))

;; As the proxy it reads the keys as root.  The settings of the daemon have to name its user:
;; seed-users = ["kapla-seed"].
(define (kapla-seed-shepherd-service config)
  (let* ((kapla (file-append (kapla-seed-configuration-package config) "/bin/kapla"))
         (upstream (kapla-seed-configuration-upstream config))
         (servers (upstream-options upstream))
         (options (kapla-seed-configuration-extra-options config)))
    (list
     (shepherd-service
      (provision '(kapla-seed))
      (requirement (if (null? upstream) '(user-processes) '(user-processes networking)))
      (documentation "Give away files of the store, as blocks.")
      (start
       #~(make-forkexec-constructor
          (list #$kapla "seed" "--user" "kapla-seed" "--store" "/gnu/store"
                "--index" "/var/cache/kapla/seed"
                "--eris-store-url" "coap+unix:///run/kapla/eris.sock" #$@servers #$@options)
          #:log-file "/var/log/kapla-seed.log"))
      ;; A pack that is being compressed is ended first.
      (stop #~(make-kill-destructor #:grace-period 60))))))

(define kapla-seed-service-type
  (service-type
   (name 'kapla-seed)
   (extensions
    (list (service-extension account-service-type
                             (const (accounts-of "kapla-seed" "Kapla, blocks of files")))
          (service-extension shepherd-root-service-type kapla-seed-shepherd-service)))
   (description "Run @command{kapla seed}, which gives away files of the store of this machine, without
a second copy.")))

(define (home-kapla-shepherd-service config)
  (list
   (shepherd-service
    (provision '(kaplad))
    (documentation "Keep this user's ERIS blocks, and serve them.")
    (start
     #~(make-forkexec-constructor
        (list #$(file-append (kapla-configuration-package config) "/bin/kaplad"))
        #:log-file (string-append (or (getenv "XDG_STATE_HOME")
                                      (string-append (getenv "HOME") "/.local/state"))
                                  "/log/kaplad.log")))
    (stop #~(make-kill-destructor #:grace-period 90)))))

;; Of its configuration only the package counts: settings are in ~/.config/kapla/kapla.toml.
(define home-kapla-service-type
  (service-type
   (name 'home-kapla)
   (extensions
    (list (service-extension home-shepherd-service-type home-kapla-shepherd-service)
          (service-extension home-profile-service-type
                             (compose list kapla-configuration-package))))
   (description "Run @command{kaplad} as a user's own daemon.")))
