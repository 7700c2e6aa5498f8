;;; Makes "guix substitute" run Kapla: for GUIX_EXTENSIONS_PATH in the environment of guix-daemon.
;;; KAPLA names the program if it is not on the daemon's path.

(define-module (guix extensions substitute)
  #:export (guix-substitute))

(define (guix-substitute . arguments)
  (let ((kapla (or (getenv "KAPLA") "kapla")))
    (apply execlp kapla kapla "substitute" arguments)))
