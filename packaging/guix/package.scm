;;; Kapla as a package of Guix: for "guix build -f", "guix install -f" and "guix shell -f" by way of
;;; guix.scm in the root of the tree, and for configurations of systems that load this file.
;;;
;;; It is built from the tree that this file is in, with the libraries that the channel of Guix has.
;;; Where one of these is older than setup.cfg asks for, the build says which.

(define-module (kapla package)
  #:use-module (guix build-system pyproject)
  #:use-module (guix gexp)
  #:use-module (guix git-download)
  #:use-module ((guix licenses) #:prefix license:)
  #:use-module (guix packages)
  #:use-module (guix utils)
  #:use-module (gnu packages)
  #:export (kapla kapla-with-postgresql))

(define %source-directory
  (dirname (dirname (dirname (canonicalize-path (current-filename))))))

(define kapla-source
  ;; What git has, or everything where there is no git.
  (local-file %source-directory "kapla-checkout"
              #:recursive? #t
              #:select? (or (git-predicate %source-directory)
                            (const #t))))

;; Python has a zstd of its own from 3.14 on.
(define zstd-for-python
  (if (version>=? (package-version (specification->package "python")) "3.14")
      '()
      '("python-backports-zstd")))

(define-public kapla
  (package
    (name "kapla")
    (version "0.1.0")
    (source kapla-source)
    (build-system pyproject-build-system)
    (arguments
     (list
      ;; The tests start daemons, other programs and networks; "make test" runs them.
      #:tests? #f
      #:phases
      #~(modify-phases %standard-phases
          (add-after 'install 'install-units
            (lambda _
              (let ((extensions (string-append #$output "/share/guix/extensions")))
                (mkdir-p extensions)
                (copy-file "packaging/guix/extensions/substitute.scm"
                           (string-append extensions "/substitute.scm"))))))))
    (native-inputs
     (map specification->package '("python-setuptools" "python-wheel")))
    (propagated-inputs
     (map specification->package
          `(,@zstd-for-python
            "python-aiocoap"
            "python-aiohappyeyeballs"
            "python-aiohttp"
            "python-blake3"
            "python-cbor2"
            "python-click"
            "python-cryptography"
            "python-httptools"
            "python-platformdirs"
            "python-pynacl"
            "python-pyroaring"
            "python-rich"
            "python-sdnotify"
            "python-sqlalchemy"
            "python-zeroconf"
            "python-zstandard")))
    (home-page "https://purl.org/eris")
    (synopsis "Store and share ERIS blocks")
    (description
     "ERIS turns content into uniformly sized, encrypted blocks that are named by their hash.
@command{kaplad} is a daemon that keeps these blocks in SQLite and serves them over CoAP and HTTP;
@command{kapla} turns files and trees into blocks and one URN, and back, and brings substitutes for
Guix out of blocks.")
    (license license:asl2.0)))

;; For a store in a database: its driver is no part of the other one.
(define-public kapla-with-postgresql
  (package
    (inherit kapla)
    (name "kapla-with-postgresql")
    (propagated-inputs
     (modify-inputs (package-propagated-inputs kapla)
       (append (specification->package "python-psycopg"))))))

kapla
