;;; As much of Guix as packaging/guix/services.scm needs, to see which commands its services run.
;;;
;;; A record is a list of its fields, a G-expression one with what is put into it, and a package its
;;; directory. For each service that is named two lists of strings are printed: the command, and the
;;; groups of its users beside their own.

(use-modules (ice-9 match) (srfi srfi-1))

(define-syntax-rule (define-record name)
  (define-syntax name
    (syntax-rules ()
      ((_ (field value) (... ...)) (list (cons 'field value) (... ...))))))

(define-record shepherd-service)
(define-record user-group)
(define-record user-account)
(define-record service-type)

(define service-extension cons)
(define account-service-type 'accounts)
(define activation-service-type 'activation)
(define profile-service-type 'profile)
(define shepherd-root-service-type 'shepherd)
(define home-shepherd-service-type 'home-shepherd)
(define home-profile-service-type 'home-profile)
(define shadow "/shadow")
(define file-append string-append)
(define (plain-file name content) content)

(define-syntax define-configuration/no-serialization
  (lambda (form)
    (syntax-case form ()
      ((_ stem (field (type . default) words) ...)
       (with-syntax (((get ...)
                      (map (lambda (one)
                             (datum->syntax #'stem
                               (symbol-append (syntax->datum #'stem) '- (syntax->datum one))))
                           #'(field ...))))
         #'(begin
             (define-record stem)
             (define (get config)
               (or (assq-ref config 'field) (car (list . default)))) ...))))))

(read-hash-extend #\~ (lambda (_ port) (list 'quasiquote (read port))))
(read-hash-extend #\$
  (lambda (_ port)
    (if (eqv? (peek-char port) #\@)
        (begin (read-char port) (list 'unquote-splicing (read port)))
        (list 'unquote (read port)))))

(define (load-services file)
  (let ((port (open-input-file file)))
    (let next ((form (read port)))
      (match form
        ((? eof-object?) #t)
        (('define-module . _) (next (read port)))
        (_ (eval form (current-module)) (next (read port)))))))

(define (show name)
  (let* ((extensions (assq-ref (eval (symbol-append name '-service-type) (current-module))
                               'extensions))
         (config '((package . "/package")
                   (upstream "https://a.example" "https://b.example")
                   (extra-options "--log-format" "json")))
         (service (car ((assq-ref extensions 'shepherd) config)))
         (accounts ((assq-ref extensions 'accounts) config)))
    (match (assq-ref service 'start)
      ((_ ('list . words) . _) (write words) (newline)))
    (write (append-map (lambda (one) (or (assq-ref one 'supplementary-groups) '())) accounts))
    (newline)))

(match (command-line)
  ((_ file . names)
   (load-services file)
   (for-each show (map string->symbol names))))
